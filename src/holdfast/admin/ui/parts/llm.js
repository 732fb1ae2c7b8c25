// @ts-check
/** One model call: who was asked what, and what came back. */
import { element, html } from '../core/html.js';
import { count, duration, money } from '../core/format.js';
import { block, harmless, pretty } from './payload.js';

/** @typedef {any} Call as `/model-calls/{id}` gives it */

/** @param {any} message */
const roleOf = (message) => String((message && (message.role || message.kind || message.type)) || 'message');

/** @param {any} message @returns {string} what is said in it, as text */
function textOf(message) {
  const content = message && message.content;
  if (typeof content === 'string') return harmless(content);
  if (Array.isArray(content) && content.every((part) => typeof part.text === 'string')) return harmless(content.map((part) => part.text).join('\n'));
  return pretty(message);
}

/** @param {unknown} message @param {boolean} isNew */
function bubble(message, isNew) {
  const text = textOf(message);
  const isLong = text.length > 1500;
  const body = element`<pre tabindex="0">${isLong ? `${text.slice(0, 1500)}…` : text}</pre>`;
  const more = isLong ? element`<button type="button" class="plain">All ${count(text.length)} characters</button>` : null;
  if (more) more.addEventListener('click', () => { body.textContent = text; more.remove(); });
  return element`<li class="bubble" data-role=${roleOf(message)}><span class="quiet">${roleOf(message)}${isNew ? ' · new' : ''}</span>${body}${more}</li>`;
}

/** The messages that were not in the call before. @param {any[]} messages @param {any[] | null} before */
export function onlyNew(messages, before) {
  if (!before) return messages;
  const known = new Set(before.map((message) => JSON.stringify(message)));
  return messages.filter((message) => !known.has(JSON.stringify(message)));
}

/** @param {Call} call @param {any[] | null} before messages of the call before */
export function llmPanel(call, before) {
  const usage = call.usage || {};
  const fresh = new Set(onlyNew(call.messages, before).map((m) => JSON.stringify(m)));
  const list = element`<ul class="bubbles"></ul>`;
  const draw = (/** @type {boolean} */ isAll) => {
    const chosen = call.messages.filter((/** @type {unknown} */ m) => isAll || fresh.has(JSON.stringify(m)));
    list.replaceChildren(...chosen.map((/** @type {unknown} */ m) => bubble(m, before !== null && fresh.has(JSON.stringify(m)))));
  };
  const box = /** @type {HTMLInputElement} */ (element`<input type="checkbox" .checked=${before !== null}>`);
  box.addEventListener('change', () => draw(!box.checked));
  draw(before === null);
  const seen = (/** @type {number | null | undefined} */ n) => (n === null || n === undefined ? '?' : count(n));
  return element`<div class="stack">
    <dl class="facts">
      <dt>Model</dt><dd>${call.response_model || call.request_model} · ${call.provider}</dd>
      <dt>Tokens</dt><dd>${seen(usage.input)} in (${seen(usage.cached_input)} cached), ${seen(usage.output)} out (${seen(usage.reasoning)} reasoning)</dd>
      <dt>Cost</dt><dd>${money(call.cost && call.cost.amount)}${call.cost && call.cost.table ? html` <span class="quiet">${call.cost.table} ${call.cost.table_date || ''}</span>` : ''}</dd>
      <dt>Time</dt><dd>${call.latency_ms === null ? '?' : duration(call.latency_ms)}${call.time_to_first_token_ms !== null ? ` · first token after ${duration(call.time_to_first_token_ms)}` : ''}</dd>
      <dt>Ended</dt><dd>${(call.finish_reasons || []).join(', ') || '?'}${call.error ? html` · <strong>${call.error}</strong>` : ''}</dd>
      <dt>Requests</dt><dd>${call.attempts}</dd>
    </dl>
    ${call.omitted ? element`<p class="quiet">The content was not kept (${call.omitted}).</p>` : ''}
    ${before ? element`<label class="row">${box} only what is new since the call before</label>` : ''}
    ${list}
    ${call.answer ? block('Answer', call.answer) : ''}
    ${Object.keys(call.settings || {}).length ? block('Settings', call.settings) : ''}
  </div>`;
}
