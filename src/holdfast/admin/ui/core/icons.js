// @ts-check
/** Our own icons: paths in a box of 16, drawn with the colour of the text. */
import { node } from './html.js';

const NS = 'http://www.w3.org/2000/svg';

const PATHS = {
  overview: 'M2 9h4V2H2zM8 2h6v5H8zM8 14h6V9H8zM2 14h4v-3H2z',
  services: 'M3 2h10v4H3zM3 10h10v4H3zM5 4h2M5 12h2',
  invocations: 'M2 4h12M2 8h12M2 12h8',
  approvals: 'M2 8l4 4 8-8',
  sessions: 'M2 3h12v8H7l-4 3v-3H2z',
  state: 'M2 4c0-3 12-3 12 0v8c0 3-12 3-12 0zM2 4c0 3 12 3 12 0M2 8c0 3 12 3 12 0',
  deployments: 'M8 1l6 3v8l-6 3-6-3V4zM2 4l6 3 6-3M8 7v8',
  metrics: 'M2 14V2M2 14h12M5 11V8M8 11V4M11 11V6',
  sql: 'M4 5l-3 3 3 3M12 5l3 3-3 3M9 3L7 13',
  search: 'M7 2a5 5 0 100 10A5 5 0 007 2zM11 11l4 4',
  theme: 'M8 1a7 7 0 100 14zM8 1a7 7 0 010 14',
  help: 'M6 6a2 2 0 114 0c0 1.5-2 1.5-2 3M8 12v.5',
  copy: 'M5 5h9v9H5zM2 11V2h9',
  down: 'M4 6l4 4 4-4',
  right: 'M6 4l4 4-4 4',
  close: 'M3 3l10 10M13 3L3 13',
  running: 'M8 2a6 6 0 106 6',
  succeeded: 'M3 8l3 3 7-7',
  failed: 'M4 4l8 8M12 4l-8 8',
  suspended: 'M6 3v10M10 3v10',
  'backing-off': 'M8 2a6 6 0 11-6 6M8 5v3l2 2M2 4v4h4',
  paused: 'M4 3h3v10H4zM9 3h3v10H9z',
  scheduled: 'M8 2a6 6 0 100 12A6 6 0 008 2zM8 5v3l2 1',
  pending: 'M3 3h10M3 13h10M5 3c0 4 6 6 6 10M11 3c0 4-6 6-6 10',
};

/** @param {string} name @returns {Node} hidden from screen readers: words stand beside it */
export function icon(name) {
  const path = /** @type {Record<string, string>} */ (PATHS)[name];
  if (!path) return node('');
  const svg = document.createElementNS(NS, 'svg');
  svg.setAttribute('viewBox', '0 0 16 16');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const drawn = document.createElementNS(NS, 'path');
  drawn.setAttribute('d', path);
  svg.append(drawn);
  return svg;
}
