// @ts-check
/** Small pieces that many views show. */
import { element } from '../core/html.js';
import { icon } from '../core/icons.js';
import { ago, exact } from '../core/format.js';
import { link } from '../core/router.js';
import { copy } from './dialog.js';

const WORDS = /** @type {Record<string, string>} */ ({
  'backing-off': 'retrying',
  suspended: 'waiting',
  pending: 'queued',
});

/** @param {string} state */
export const stateWord = (state) => WORDS[state] || state;

/** Status is a word and an icon, never colour alone. @param {string} state */
export function status(state) {
  return element`<span class="status" data-state=${state}>${icon(state)}${stateWord(state)}</span>`;
}

/** A time that stays true: `refreshTimes` writes it anew. @param {number} atMs */
export function time(atMs) {
  if (!atMs) return element`<span class="quiet">–</span>`;
  return element`<time data-at=${atMs} datetime=${new Date(atMs).toISOString()} title=${exact(atMs)}>${ago(atMs)}</time>`;
}

/** @param {ParentNode} place */
export function refreshTimes(place) {
  for (const shown of /** @type {NodeListOf<HTMLElement>} */ (place.querySelectorAll('time[data-at]'))) {
    const text = ago(Number(shown.dataset.at));
    if (shown.textContent !== text) shown.textContent = text;
  }
}

/** @param {string} id @param {string} [text] */
export function runLink(id, text) {
  return element`<a class="mono" href=${link(['invocations', id])} title=${id}>${text || `${id.slice(0, 10)}…${id.slice(-4)}`}</a>`;
}

/** @param {string} text @param {string} what */
export function copyButton(text, what) {
  return element`<button type="button" class="plain" title=${`Copy ${what}`} aria-label=${`Copy ${what}`} @click=${() => copy(text)}>${icon('copy')}</button>`;
}

/** @param {{service: string, key: string | null, handler: string}} row */
export const target = (row) => (row.key === null ? `${row.service}/${row.handler}` : `${row.service}/${row.key}/${row.handler}`);
