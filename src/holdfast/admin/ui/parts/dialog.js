// @ts-check
/** Dialogs and short messages. Focus goes back to where it was when a dialog closes. */
import { element, html } from '../core/html.js';
import { ApiError } from '../core/api.js';

/**
 * @param {string} title @param {unknown} content
 * @returns {HTMLDialogElement} shown; it is removed when it closes
 */
export function openDialog(title, content) {
  const dialog = /** @type {HTMLDialogElement} */ (
    element`<dialog aria-label=${title}>
      <div class="row spread"><h2>${title}</h2>
      <button type="button" class="plain" aria-label="Close" @click=${() => dialog.close()}>✕</button></div>
      <div class="stack">${content}</div>
    </dialog>`
  );
  const before = document.activeElement;
  dialog.addEventListener('close', () => {
    dialog.remove();
    if (before instanceof HTMLElement && before.isConnected) before.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Ask before something that changes or ends runs.
 * @param {string} title @param {unknown} content what will happen @param {string} verb the button
 * @param {() => Promise<void>} act @param {{command?: string, danger?: boolean}} [options] `command` is the same on the command line
 */
export function confirm(title, content, verb, act, { command, danger } = {}) {
  const problem = element`<p role="alert"></p>`;
  const button = /** @type {HTMLButtonElement} */ (
    element`<button type="button" class=${danger ? 'danger' : 'primary'}>${verb}</button>`
  );
  const dialog = openDialog(
    title,
    html`<div>${content}</div>${problem}
      ${command ? html`<div><span class="quiet">The same on the command line</span><pre tabindex="0">${command}</pre></div>` : ''}
      <div class="row"><span>${button}</span><button type="button" @click=${() => dialog.close()}>Leave it</button></div>`,
  );
  button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      await act();
      dialog.close();
    } catch (error) {
      button.disabled = false;
      if (!(error instanceof ApiError)) throw error;
      problem.textContent = `${error.message} ${error.hint}`;
    }
  });
  return dialog;
}

/** @param {string} text said once, also to screen readers */
export function toast(text) {
  for (const old of document.querySelectorAll('.toast')) old.remove();
  const said = element`<div class="toast" role="status">${text}</div>`;
  document.body.append(said);
  setTimeout(() => said.remove(), 4000);
}

/** @param {string} text */
export async function copy(text) {
  await navigator.clipboard.writeText(text);
  toast('Copied');
}
