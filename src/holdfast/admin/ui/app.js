// @ts-check
/** The shell: where one can go, and the view of the place one is at. */
import { element, show } from './core/html.js';
import { icon } from './core/icons.js';
import { get } from './core/api.js';
import { live } from './core/live.js';
import { go, link, onMove } from './core/router.js';
import { knownKeys, onKey } from './core/keys.js';
import { clock } from './core/format.js';
import { openDialog } from './parts/dialog.js';
import { refreshTimes } from './parts/bits.js';
import { openPalette } from './parts/palette.js';
import { PLACES, viewFor } from './places.js';

const ROOT = document.documentElement;
const THEMES = ['system', 'light', 'dark'];

function applyTheme() {
  const chosen = localStorage.getItem('holdfast.theme') || 'system';
  const isDark = chosen === 'dark' || (chosen === 'system' && matchMedia('(prefers-color-scheme: dark)').matches);
  ROOT.dataset.theme = isDark ? 'dark' : 'light';
  return chosen;
}

function nextTheme() {
  const at = THEMES.indexOf(localStorage.getItem('holdfast.theme') || 'system');
  localStorage.setItem('holdfast.theme', THEMES[(at + 1) % THEMES.length]);
  return applyTheme();
}

function openHelp() {
  const rows = knownKeys().map(([key, label]) => element`<tr><td><kbd>${key}</kbd></td><td>${label}</td></tr>`);
  openDialog('Keys', element`<table class="table"><tbody>${rows}</tbody></table>`);
}

applyTheme();
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', applyTheme);

const main = element`<main id="main" tabindex="-1"></main>`;
const dot = element`<span class="dot" data-state="connecting"></span>`;
const word = element`<span role="status">connecting</span>`;
const version = element`<span></span>`;
const badge = element`<span class="badge" hidden></span>`;
const themeButton = element`<button type="button" class="plain" @click=${() => (themeWord.textContent = nextTheme())}>${icon('theme')} <span></span></button>`;
const themeWord = /** @type {HTMLElement} */ (themeButton.querySelector('span'));
themeWord.textContent = localStorage.getItem('holdfast.theme') || 'system';
const clockButton = element`<button type="button" class="plain">${clock.isUtc ? 'UTC' : 'local time'}</button>`;
clockButton.addEventListener('click', () => {
  clock.toggle();
  location.reload();
});

const links = PLACES.map((place) => {
  const found = element`<a class="place" href=${link(place.path)}>${icon(place.icon)}<span>${place.label}</span></a>`;
  if (place.path[0] === 'approvals') found.append(badge);
  onKey(`g ${place.key}`, `Go to ${place.label.toLowerCase()}`, () => go(link(place.path)));
  return found;
});

document.body.append(
  element`<div class="shell">
    <nav class="side" aria-label="Places">
      <a class="brand" href="#/"><img src=${new URL('icon.svg', import.meta.url).pathname} alt=""><span>Holdfast</span></a>
      ${links}
      <footer>
        <div class="row">${dot}${word}</div>
        <div class="row">${themeButton}${clockButton}</div>
        <div>${version}</div>
      </footer>
    </nav>
    ${main}
  </div>`,
);

/** @type {import('./core/view.js').View | null} */
let view = null;

onMove(async (place) => {
  const Found = await viewFor(place.path);
  for (const [index, each] of PLACES.entries()) {
    const isHere = (place.path[0] || '') === (each.path[0] || '');
    if (isHere) links[index].setAttribute('aria-current', 'page');
    else links[index].removeAttribute('aria-current');
  }
  const isSame = view && view.constructor === Found && view.place.path.join('/') === place.path.join('/');
  if (view && isSame && view.moved(place)) {
    view.place = place;
    return;
  }
  view = new Found();
  view.place = place;
  show(main, view);
  main.scrollTop = 0;
  document.title = `${view.title || place.path.join(' / ') || 'Overview'} · Holdfast`;
});

onKey('?', 'Show all keys', openHelp);
onKey('mod+k', 'Go to anything', openPalette);
onKey('/', 'Search', () => {
  const field = /** @type {HTMLElement | null} */ (main.querySelector('[data-search]'));
  if (field) field.focus();
  else openPalette();
});
onKey('Escape', 'Back', () => {
  if (document.activeElement instanceof HTMLElement && document.activeElement !== document.body) document.activeElement.blur();
  else history.back();
});

live.addEventListener('state', () => {
  dot.dataset.state = live.state;
  word.textContent = live.state;
});
live.start();
setInterval(() => refreshTimes(main), 1000);

async function countApprovals() {
  try {
    const { approvals } = await get('/holdfast/v1/approvals?status=open&limit=100');
    badge.textContent = approvals.length > 99 ? '99+' : String(approvals.length);
    badge.hidden = approvals.length === 0;
    badge.setAttribute('aria-label', `${approvals.length} waiting`);
  } catch {
    // The badge is a hint: the inbox itself says what is wrong.
    badge.hidden = true;
  }
}
let counting = 0;
live.listen({
  ready: () => void countApprovals(),
  frame: () => {
    clearTimeout(counting);
    counting = setTimeout(countApprovals, 500);
  },
});

get('/version').then(
  (found) => (version.textContent = `Holdfast ${found.holdfast_version || found.version}`),
  () => (version.textContent = ''),
);
