// @ts-check
/** One field that leads anywhere: ids, services, places. */
import { element, sync } from '../core/html.js';
import { get } from '../core/api.js';
import { go, link } from '../core/router.js';
import { PLACES } from '../places.js';
import { openDialog } from './dialog.js';

/** @typedef {{label: string, hash: string}} Goal */

/** Where an id leads; null: it is none. @param {string} text @returns {string | null} */
export function placeOfId(text) {
  const id = text.trim();
  if (/^inv_[0-9A-Za-z]+$/.test(id)) return link(['invocations', id]);
  if (/^(sign|prom)_[0-9A-Za-z_-]+$/.test(id)) return link(['approvals', id]);
  if (/^dp_[0-9A-Za-z]+$/.test(id)) return link(['deployments', id]);
  return null;
}

export async function openPalette() {
  /** @type {Goal[]} */
  let goals = PLACES.map((place) => ({ label: place.label, hash: link(place.path) }));
  let found = goals;
  let at = 0;
  const list = element`<ul role="listbox" id="palette-list" aria-label="Found"></ul>`;
  const field = /** @type {HTMLInputElement} */ (
    element`<input role="combobox" aria-expanded="true" aria-controls="palette-list" aria-label="Go to" placeholder="An id, a service, a place" autocomplete="off">`
  );
  const dialog = openDialog('Go to anything', element`<div class="palette">${field}${list}</div>`);
  /** @param {Goal} goal */
  const take = (goal) => {
    dialog.close();
    go(goal.hash);
  };
  const draw = () => {
    const text = field.value.trim().toLowerCase();
    const byId = placeOfId(field.value);
    found = goals.filter((goal) => goal.label.toLowerCase().includes(text)).slice(0, 50);
    if (byId) found = [{ label: field.value.trim(), hash: byId }, ...found];
    at = Math.max(0, Math.min(at, found.length - 1));
    sync(list, found, (goal) => goal.hash, (goal) => element`<li role="option" id=${`goal-${goal.hash}`} @click=${() => take(goal)}>${goal.label}</li>`);
    [...list.children].forEach((child, index) => child.setAttribute('aria-selected', String(index === at)));
    const chosen = list.children[at];
    if (chosen) field.setAttribute('aria-activedescendant', chosen.id);
    else field.removeAttribute('aria-activedescendant');
  };
  field.addEventListener('input', () => {
    at = 0;
    draw();
  });
  field.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown') at++;
    else if (event.key === 'ArrowUp') at--;
    else if (event.key === 'Enter' && found[at]) return take(found[at]);
    else return;
    event.preventDefault();
    draw();
  });
  draw();
  field.focus();
  try {
    const { services } = await get('/services');
    goals = [...goals, ...services.flatMap((/** @type {any} */ service) => [
      { label: service.name, hash: link(['services', service.name]) },
      ...service.handlers.map((/** @type {any} */ handler) => ({ label: `${service.name}/${handler.name}`, hash: link(['services', service.name, handler.name]) })),
    ])];
    if (dialog.isConnected) draw();
  } catch {
    // Places and ids are found without the server, too.
  }
}
