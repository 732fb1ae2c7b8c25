// @ts-check
/**
 * A list of rows that the server gives page by page, newest first, and that stays true: rows change
 * where they are, new ones come in at the top only while nobody has scrolled away from it.
 */
import { element, sync } from '../core/html.js';

/**
 * @template T
 * @typedef {object} Column
 * @property {string} label
 * @property {(row: T) => unknown} show
 * @property {boolean} [right]
 */

/** @template T */
export class RowList {
  /** @type {T[]} */
  rows = [];
  /** @type {Set<string>} */
  chosen = new Set();
  at = -1;
  /** @type {string | null} Where the next page begins. */
  next = null;

  /**
   * @param {object} given
   * @param {string} given.label for screen readers
   * @param {Column<T>[]} given.columns
   * @param {(row: T) => string} given.keyOf
   * @param {(row: T) => void} [given.open]
   * @param {(chosen: Set<string>) => void} [given.onChosen] rows get a box to choose them
   */
  constructor({ label, columns, keyOf, open, onChosen }) {
    this.columns = columns;
    this.keyOf = keyOf;
    this.open = open;
    this.onChosen = onChosen;
    this.body = element`<tbody></tbody>`;
    const boxes = onChosen ? element`<th scope="col"><span class="visually-hidden">Chosen</span></th>` : '';
    this.table = element`<div class="scroll" tabindex="0" role="region" aria-label=${label}><table class="table">
      <thead><tr>${boxes}${columns.map((c) => element`<th scope="col" class=${c.right ? 'right' : null}>${c.label}</th>`)}</tr></thead>
      ${this.body}</table></div>`;
  }

  /** @param {T[]} rows */
  show(rows) {
    this.rows = rows;
    sync(this.body, rows, this.keyOf, (row) => this.#make(row), (child, row) => this.#update(child, row));
    this.#mark();
  }

  /** @param {number} step */
  move(step) {
    if (!this.rows.length) return;
    this.at = Math.max(0, Math.min(this.rows.length - 1, this.at + step));
    this.#mark();
    const row = this.body.children[this.at];
    if (row) row.scrollIntoView({ block: 'nearest' });
  }

  openCurrent() {
    const row = this.rows[this.at];
    if (row && this.open) this.open(row);
  }

  get current() {
    return this.rows[this.at];
  }

  #mark() {
    [...this.body.children].forEach((child, index) => {
      if (index === this.at) child.setAttribute('aria-selected', 'true');
      else child.removeAttribute('aria-selected');
    });
  }

  /** @param {T} row */
  #make(row) {
    const made = element`<tr></tr>`;
    this.#fill(made, row);
    made.addEventListener('click', (event) => {
      const target = /** @type {Element} */ (event.target);
      if (target.closest('a, button, input') || !this.open) return;
      this.open(row);
    });
    return made;
  }

  /** @param {HTMLElement} child @param {T} row */
  #update(child, row) {
    const text = JSON.stringify(row);
    if (child.dataset.row === text) return;
    this.#fill(child, row);
    child.classList.remove('once');
    // A change flashes once; reading the width starts the animation anew.
    void child.offsetWidth;
    child.classList.add('once');
  }

  /** @param {HTMLElement} place @param {T} row */
  #fill(place, row) {
    place.dataset.row = JSON.stringify(row);
    const key = this.keyOf(row);
    const cells = this.columns.map((c) => element`<td class=${c.right ? 'right' : null}>${c.show(row)}</td>`);
    if (this.onChosen) {
      const box = element`<input type="checkbox" aria-label=${`Choose ${key}`} .checked=${this.chosen.has(key)}>`;
      box.addEventListener('change', () => {
        if (/** @type {HTMLInputElement} */ (box).checked) this.chosen.add(key);
        else this.chosen.delete(key);
        if (this.onChosen) this.onChosen(this.chosen);
      });
      cells.unshift(element`<td>${box}</td>`);
    }
    place.replaceChildren(...cells);
  }
}

