// @ts-check
/** What can be done to invocations: one or many. */
import { element } from '../core/html.js';
import { ask } from '../core/api.js';
import { confirm, toast } from './dialog.js';

/** @typedef {{verb: string, label: string, text: string, danger?: boolean}} Action */

/** @type {Action[]} */
export const ACTIONS = [
  { verb: 'cancel', label: 'Cancel', text: 'The handler is told and may clean up; what it has called is cancelled, too.' },
  { verb: 'kill', label: 'Kill', text: 'Ends at once, without clean-up; so does what it has called.', danger: true },
  { verb: 'pause', label: 'Pause', text: 'No more attempts until it is resumed.' },
  { verb: 'resume', label: 'Resume', text: 'An attempt starts now, with fresh retry counters.' },
  { verb: 'restart-as-new', label: 'Restart', text: 'A new invocation with the same input; what was done is done again.' },
  { verb: 'purge', label: 'Purge', text: 'The completed invocation and its journal are removed.', danger: true },
];

/** The same on the command line. @param {string} verb @param {string[]} ids */
function commandOf(verb, ids) {
  const name = verb === 'restart-as-new' ? 'restart' : verb;
  return ids.length === 1 ? `holdfast invocations ${name} ${ids[0]}` : `holdfast invocations ${name} ${ids.slice(0, 3).join(' ')}${ids.length > 3 ? ' …' : ''}`;
}

/** @param {Action} action @param {string[]} ids @param {(answers: any[]) => void} done */
export function askFor(action, ids, done) {
  const what = ids.length === 1 ? ids[0] : `${ids.length} invocations`;
  confirm(`${action.label} ${what}?`, action.text, action.label, async () => {
    const answers = [];
    for (const id of ids) answers.push(await ask('PATCH', `/invocations/${encodeURIComponent(id)}/${action.verb}`));
    toast(`${action.label}: ${what}`);
    done(answers);
  }, { command: commandOf(action.verb, ids), danger: action.danger });
}

/** @param {string[]} ids @param {() => void} done */
export function batchBar(ids, done) {
  const buttons = ACTIONS.map((action) => element`<button type="button" class=${action.danger ? 'danger' : null} @click=${() => askFor(action, ids, done)}>${action.label}</button>`);
  return element`<div class="row card" role="group" aria-label="Chosen invocations"><strong>${ids.length} chosen</strong>${buttons}</div>`;
}
