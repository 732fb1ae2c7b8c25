// @ts-check
/** Keys of the whole tab. Typing into a field is not for us. */

/** @type {Map<string, {act: () => void, label: string}>} */
const bound = new Map();
let pending = '';

/** @param {string} key one key, or two such as `g i` @param {string} label @param {() => void} act @returns {() => void} */
export function onKey(key, label, act) {
  const entry = { act, label };
  bound.set(key, entry);
  return () => {
    if (bound.get(key) === entry) bound.delete(key);
  };
}

/** @returns {[string, string][]} key and label of all that is bound */
export const knownKeys = () => [...bound].map(([key, { label }]) => [key, label]);

/** @param {EventTarget | null} target */
function isTyping(target) {
  return target instanceof HTMLElement && (target.isContentEditable || ['INPUT', 'TEXTAREA', 'SELECT'].includes(target.tagName));
}

addEventListener('keydown', (event) => {
  const isPalette = (event.metaKey || event.ctrlKey) && event.key.toLowerCase() === 'k';
  if (!isPalette && (event.ctrlKey || event.metaKey || event.altKey)) return;
  if (isTyping(event.target) && !isPalette && event.key !== 'Escape') return;
  const key = isPalette ? 'mod+k' : event.key;
  const found = bound.get(pending ? `${pending} ${key}` : key);
  pending = !found && key === 'g' ? 'g' : '';
  if (found) {
    event.preventDefault();
    found.act();
  }
});
