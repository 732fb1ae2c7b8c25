// @ts-check
/**
 * Where the tab is: `#/invocations/inv_1…?tab=log`. Path and query are all there is, so a reload
 * and a link lead to the same place.
 */

/** @typedef {{path: string[], query: URLSearchParams}} Place */

/** @returns {Place} */
export function here() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  return { path: path.split('/').filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query) };
}

/** @param {string[]} path @param {Record<string, string | null | undefined>} [query] */
export function link(path, query = {}) {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value) given.set(name, value);
  const text = given.toString();
  return `#/${path.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}

/** Change the query of this place, without a step in the history. @param {Record<string, string | null | undefined>} query */
export function amend(query) {
  const { path, query: old } = here();
  for (const [name, value] of Object.entries(query)) {
    if (value) old.set(name, value);
    else old.delete(name);
  }
  history.replaceState(null, '', link(path, Object.fromEntries(old)));
}

/** @param {string} hash from `link` */
export function go(hash) {
  location.hash = hash.slice(1);
}

/** @param {(place: Place) => void} listener */
export function onMove(listener) {
  addEventListener('hashchange', () => listener(here()));
  listener(here());
}
