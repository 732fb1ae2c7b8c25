// @ts-check
/** Questions in SQL, read only, with limits of time and rows. */
import { element, show } from '../core/html.js';
import { ask } from '../core/api.js';
import { count } from '../core/format.js';
import { amend } from '../core/router.js';
import { emptyBox, View } from '../core/view.js';
import { harmless } from '../parts/payload.js';
import { placeOfId } from '../parts/palette.js';

const EXAMPLES = [
  ['What runs or waits', "SELECT id, target, status, created_at FROM sys_invocation WHERE status <> 'completed' ORDER BY created_at LIMIT 100"],
  ['Why attempts fail', 'SELECT last_failure, count(*) AS times FROM sys_invocation WHERE last_failure IS NOT NULL GROUP BY last_failure ORDER BY times DESC'],
  ['Busiest services', 'SELECT target_service_name, count(*) AS invocations FROM sys_invocation GROUP BY target_service_name ORDER BY invocations DESC'],
  ['Tokens by model', 'SELECT response_model, sum(input_tokens) AS input, sum(output_tokens) AS output FROM holdfast_model_call GROUP BY response_model'],
];
const ROWS_MAX = 500;

export default class Sql extends View {
  title = 'SQL';
  #field = /** @type {HTMLTextAreaElement} */ (element`<textarea rows="5" aria-label="Query" spellcheck="false"></textarea>`);
  #found = element`<div></div>`;

  begin() {
    this.#field.value = this.place.query.get('q') || EXAMPLES[0][1];
    this.#field.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && (event.metaKey || event.ctrlKey)) void this.#run();
    });
    show(this, element`<div class="stack"><h1>SQL</h1>
      <div class="row">${EXAMPLES.map(([label, text]) => element`<button type="button" class="chip" @click=${() => { this.#field.value = text; void this.#run(); }}>${label}</button>`)}</div>
      ${this.#field}<div class="row"><button type="button" class="primary" @click=${() => this.#run()}>Ask</button><span class="quiet"><kbd>Ctrl</kbd> <kbd>Enter</kbd></span></div>${this.#found}</div>`);
    if (this.place.query.get('q')) void this.#run();
  }

  async #run() {
    amend({ q: this.#field.value });
    await this.attempt(async () => {
      const { rows } = await ask('POST', '/query', { query: this.#field.value }, this.signal);
      if (!rows.length) return show(this.#found, emptyBox('No rows.'));
      const names = Object.keys(rows[0]);
      show(this.#found, element`<p class="quiet">${count(rows.length)} rows</p>`, element`<div class="scroll" tabindex="0" role="region" aria-label="Rows"><table class="table"><thead><tr>${names.map((name) => element`<th scope="col">${name}</th>`)}</tr></thead>
        <tbody>${rows.slice(0, ROWS_MAX).map((/** @type {any} */ row) => element`<tr>${names.map((name) => element`<td>${cell(row[name])}</td>`)}</tr>`)}</tbody></table></div>`);
    });
  }
}
customElements.define('hf-sql', Sql);

/** @param {unknown} value */
function cell(value) {
  if (value === null || value === undefined) return element`<span class="quiet">null</span>`;
  const text = harmless(typeof value === 'string' ? value : JSON.stringify(value));
  const hash = placeOfId(text);
  return hash ? element`<a class="mono" href=${hash}>${text}</a>` : text.slice(0, 500);
}
