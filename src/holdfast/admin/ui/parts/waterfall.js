// @ts-check
/**
 * The timeline of a run: operations as rows, their time as bars. Only rows near the screen are in
 * the page, so a run of thousands of operations scrolls like a short one.
 *
 * The axis covers the rows on the screen (*fit rows*), else a run of many steps is slivers; and time
 * in which nothing happened can be folded.
 */
import { element, show } from '../core/html.js';
import { duration, money } from '../core/format.js';
import { icon } from '../core/icons.js';

const ROW = 26;
const SPARE = 12;
const IDLE_MS = 5000;
const FOLDED_MS = 300;

/** @typedef {any} Operation as the server lists them */
/** @typedef {{from: number, to: number}} Span */

/** Time without idle stretches: maps a time to its place on the axis. */
class Axis {
  /** @param {Operation[]} operations @param {number} now @param {boolean} isFolding */
  constructor(operations, now, isFolding) {
    /** @type {{from: number, cut: number}[]} */
    this.folds = [];
    if (!isFolding) return;
    const busy = operations
      .filter((o) => o.kind !== 'Sleep' && o.kind !== 'Input')
      .map((o) => ({ from: o.at, to: o.end ?? now }))
      .sort((a, b) => a.from - b.from);
    let until = busy.length ? busy[0].from : 0;
    for (const { from, to } of busy) {
      if (from - until > IDLE_MS) this.folds.push({ from: until, cut: from - until - FOLDED_MS });
      until = Math.max(until, to);
    }
  }

  /** @param {number} at */
  place(at) {
    let cut = 0;
    for (const fold of this.folds) if (at > fold.from) cut += Math.min(fold.cut, at - fold.from);
    return at - cut;
  }
}

export class Waterfall {
  /** @type {Operation[]} */
  #all = [];
  /** @type {Operation[]} */
  #rows = [];
  #now = 0;
  #selected = -1;
  isFitting = true;
  isFolding = false;
  #axis = new Axis([], 0, false);
  #drawn = '';

  /** @param {(operation: Operation) => void} select */
  constructor(select) {
    this.select = select;
    this.canvas = element`<div class="wf-canvas" role="presentation"></div>`;
    this.ruler = element`<div class="wf-ruler" aria-hidden="true"></div>`;
    this.scroller = element`<div class="wf-scroll" role="listbox" tabindex="0" aria-label="Operations">${this.canvas}</div>`;
    this.element = element`<div class="wf card">${this.ruler}${this.scroller}</div>`;
    this.scroller.addEventListener('scroll', () => this.#draw(), { passive: true });
    this.scroller.addEventListener('keydown', (event) => {
      if (event.key === 'ArrowDown') this.move(1);
      else if (event.key === 'ArrowUp') this.move(-1);
      else return;
      event.preventDefault();
    });
    new ResizeObserver(() => this.#draw(true)).observe(this.scroller);
  }

  /** @param {Operation[]} operations @param {number} now @param {boolean} isQuietHidden */
  show(operations, now, isQuietHidden) {
    this.#all = operations;
    this.#now = now;
    // What failed is never hidden.
    this.#rows = isQuietHidden ? operations.filter((o) => !isQuiet(o) || o.state === 'failed') : operations;
    this.#axis = new Axis(operations, now, this.isFolding);
    this.canvas.style.height = `${this.#rows.length * ROW}px`;
    this.#draw(true);
  }

  get selected() {
    return this.#rows[this.#selected];
  }

  /** @param {number} index of the operation in the journal */
  selectIndex(index) {
    this.#selected = this.#rows.findIndex((o) => o.index === index);
    this.#reveal();
    this.#draw(true);
  }

  /** @param {number} step */
  move(step) {
    if (!this.#rows.length) return;
    this.#selected = Math.max(0, Math.min(this.#rows.length - 1, this.#selected + step));
    this.#reveal();
    this.#draw(true);
    this.select(this.#rows[this.#selected]);
  }

  /** To the next failed operation, or the one before. @param {number} step */
  moveToError(step) {
    for (let i = this.#selected + step; i >= 0 && i < this.#rows.length; i += step) {
      if (this.#rows[i].state === 'failed') {
        this.move(i - this.#selected);
        return;
      }
    }
  }

  #reveal() {
    const top = this.#selected * ROW;
    const { scrollTop, clientHeight } = this.scroller;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + ROW > scrollTop + clientHeight) this.scroller.scrollTop = top + ROW - clientHeight;
  }

  #draw(isForced = false) {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - SPARE);
    const last = Math.min(this.#rows.length, Math.ceil((this.scroller.scrollTop + this.scroller.clientHeight) / ROW) + SPARE);
    const drawn = `${first}-${last}`;
    if (!isForced && drawn === this.#drawn) return;
    this.#drawn = drawn;
    const visible = this.#rows.slice(first, last);
    const span = this.#span(this.isFitting ? visible : this.#all);
    show(this.canvas, ...visible.map((operation, i) => this.#row(operation, first + i, span)));
    show(this.ruler, ...ticks(span));
    const chosen = this.canvas.querySelector('[aria-selected="true"]');
    if (chosen) this.scroller.setAttribute('aria-activedescendant', chosen.id);
    else this.scroller.removeAttribute('aria-activedescendant');
  }

  /** @param {Operation[]} rows @returns {Span} */
  #span(rows) {
    let from = Infinity;
    let to = -Infinity;
    for (const o of rows) {
      from = Math.min(from, this.#axis.place(o.at));
      to = Math.max(to, this.#axis.place(o.end ?? this.#now));
    }
    return from < to ? { from, to } : { from: from === Infinity ? 0 : from, to: (from === Infinity ? 0 : from) + 1 };
  }

  /** @param {Operation} operation @param {number} at @param {Span} span */
  #row(operation, at, span) {
    const end = operation.end ?? this.#now;
    const width = span.to - span.from;
    const left = (this.#axis.place(operation.at) - span.from) / width;
    const right = (this.#axis.place(end) - span.from) / width;
    const bar = element`<span class="wf-bar" data-state=${operation.state} data-kind=${kindClass(operation)}></span>`;
    bar.style.left = `${Math.max(0, left * 100)}%`;
    bar.style.width = `${Math.max(0.3, (right - left) * 100)}%`;
    const detail = operation.detail || {};
    const usage = detail.usage ? (detail.usage.input || 0) + (detail.usage.output || 0) : 0;
    const made = element`<div class="wf-row" role="option" id=${`op-${operation.index}`} aria-selected=${String(at === this.#selected)} @click=${() => this.#choose(at)}>
      <span class="wf-label">${indent(operation)}${stateIcon(operation)}<span class="wf-kind">${kindWord(operation)}</span><span class="wf-name">${operation.name}</span></span>
      <span class="wf-track">${bar}<span class="wf-took">${operation.state === 'open' ? 'open ' : ''}${end > operation.at ? duration(end - operation.at) : ''}${usage ? ` · ${usage} tok` : ''}${detail.kind === 'model' ? ` · ${money(detail.cost && detail.cost.amount)}` : ''}</span></span>
    </div>`;
    made.style.top = `${at * ROW}px`;
    return made;
  }

  /** @param {number} at */
  #choose(at) {
    this.#selected = at;
    this.#draw(true);
    this.select(this.#rows[at]);
  }
}

/** @param {Operation} o */
export function kindWord(o) {
  if (o.detail && o.detail.kind === 'model') return 'llm';
  if (o.detail && o.detail.kind === 'tool') return 'tool';
  return /** @type {Record<string, string>} */ ({ Run: 'step', OneWayCall: 'send', GetEagerState: 'get', GetLazyState: 'get', SetState: 'set', AskApproval: 'approval', CompleteAwakeable: 'resolve', AttachInvocation: 'attach' })[o.kind] || o.kind.toLowerCase();
}

/** @param {Operation} o */
const kindClass = (o) => kindWord(o);

/** @param {Operation} o */
const isQuiet = (o) => ['get', 'set', 'geteagerstatekeys', 'getlazystatekeys', 'clearstate'].includes(kindWord(o));

/** @param {Operation} o */
function stateIcon(o) {
  return o.state === 'failed' ? icon('failed') : o.state === 'open' ? icon('running') : icon('succeeded');
}

/** How deep an operation is: branches that agents and tools have opened. @param {Operation} o */
function indent(o) {
  const depth = (o.key || '').split('/').filter((/** @type {string} */ part) => /^(agent|tool|scope):/.test(part)).length;
  const spacer = element`<span class="wf-indent"></span>`;
  spacer.style.width = `${Math.min(depth, 6) * 12}px`;
  return spacer;
}

/** @param {Span} span */
function ticks(span) {
  return [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const tick = element`<span>${duration((span.to - span.from) * part)}</span>`;
    tick.style.left = `${part * 100}%`;
    return tick;
  });
}
