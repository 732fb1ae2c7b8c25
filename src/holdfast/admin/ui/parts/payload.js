// @ts-check
/** Payloads: whatever handlers, models and tools said. Text and nothing else. */
import { element } from '../core/html.js';
import { size } from '../core/format.js';
import { copyButton } from './bits.js';

/** Characters that change how other text looks, made visible. @param {string} text */
export function harmless(text) {
  return text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** @param {unknown} value */
export const pretty = (value) => harmless(typeof value === 'string' ? value : JSON.stringify(value, null, 2));

/** @param {string} label @param {unknown} value */
export function block(label, value) {
  const text = pretty(value);
  return element`<section><div class="row spread"><span class="quiet">${label}</span>${copyButton(text, label.toLowerCase())}</div>
    <pre class="block" tabindex="0">${text}</pre></section>`;
}

/**
 * @param {string} label @param {{encoding: string, value: unknown, size: number, is_truncated?: boolean} | null} payload
 * @param {() => void} [loadAll]
 */
export function payloadBlock(label, payload, loadAll) {
  if (!payload) return element`<section><span class="quiet">${label}: nothing</span></section>`;
  const shown = block(`${label} · ${size(payload.size)}${payload.encoding === 'base64' ? ' · base64' : ''}`, payload.value);
  if (payload.is_truncated && loadAll) shown.append(element`<button type="button" @click=${loadAll}>Load all</button>`);
  return shown;
}
