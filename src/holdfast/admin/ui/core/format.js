// @ts-check
/** How times, sizes, tokens and money are written. */

let offsetMs = 0;

/** The server's clock counts: browsers may be minutes off. @param {number} nowMs */
export function learnServerTime(nowMs) {
  offsetMs = nowMs - Date.now();
}

/** The server's time, milliseconds since the epoch. */
export const serverNow = () => Date.now() + offsetMs;

/** @param {number} ms @returns {string} such as `1.2 s`, `4 min 10 s`, `3 d 2 h` */
export function duration(ms) {
  if (ms < 0) ms = 0;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  const s = Math.round(ms / 1000);
  if (s < 3600) return join(Math.floor(s / 60), 'min', s % 60, 's');
  if (s < 86_400) return join(Math.floor(s / 3600), 'h', Math.floor((s % 3600) / 60), 'min');
  return join(Math.floor(s / 86_400), 'd', Math.floor((s % 86_400) / 3600), 'h');
}

/** @param {number} big @param {string} bigUnit @param {number} small @param {string} smallUnit */
function join(big, bigUnit, small, smallUnit) {
  return small ? `${big} ${bigUnit} ${small} ${smallUnit}` : `${big} ${bigUnit}`;
}

/** @param {number} atMs */
export function ago(atMs) {
  const ms = serverNow() - atMs;
  if (Math.abs(ms) < 1000) return 'now';
  return ms > 0 ? `${duration(ms - (ms % 1000))} ago` : `in ${duration(-ms - (-ms % 1000))}`;
}

/** UTC or the browser's own; kept for the next visit. */
export const clock = {
  get isUtc() {
    return localStorage.getItem('holdfast.utc') === '1';
  },
  toggle() {
    localStorage.setItem('holdfast.utc', this.isUtc ? '0' : '1');
  },
};

/** @param {number} atMs @returns {string} with milliseconds and zone */
export function exact(atMs) {
  const at = new Date(atMs);
  if (clock.isUtc) return at.toISOString().replace('T', ' ').replace('Z', ' UTC');
  const local = new Date(atMs - at.getTimezoneOffset() * 60_000);
  const minutes = -at.getTimezoneOffset();
  const sign = minutes < 0 ? '-' : '+';
  const two = (/** @type {number} */ n) => String(n).padStart(2, '0');
  const zone = `${sign}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
  return `${local.toISOString().slice(0, 23).replace('T', ' ')} ${zone}`;
}

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const units = ['kB', 'MB', 'GB', 'TB'];
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** @param {number} value */
export const count = (value) => value.toLocaleString('en');

/** An unknown price is never nothing. @param {string | null | undefined} amount @param {string} [currency] */
export function money(amount, currency = 'USD') {
  if (amount === null || amount === undefined) return '?';
  const value = Number(amount);
  const digits = value === 0 ? 2 : Math.min(6, Math.max(2, 2 - Math.floor(Math.log10(Math.abs(value)))));
  return `${currency === 'USD' ? '$' : `${currency} `}${value.toFixed(digits)}`;
}
