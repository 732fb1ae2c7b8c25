// @ts-check
/** Where one can go. Views are loaded when they are first needed. */

/** @typedef {new () => import('./core/view.js').View} ViewClass */

export const PLACES = [
  { path: [], key: 'o', label: 'Overview', icon: 'overview' },
  { path: ['invocations'], key: 'i', label: 'Invocations', icon: 'invocations' },
  { path: ['services'], key: 's', label: 'Services', icon: 'services' },
  { path: ['approvals'], key: 'a', label: 'Approvals', icon: 'approvals' },
  { path: ['sessions'], key: 'c', label: 'Sessions', icon: 'sessions' },
  { path: ['state'], key: 't', label: 'State', icon: 'state' },
  { path: ['deployments'], key: 'd', label: 'Deployments', icon: 'deployments' },
  { path: ['sql'], key: 'q', label: 'SQL', icon: 'sql' },
];

const VIEWS = {
  '': () => import('./views/overview.js'),
  invocations: () => import('./views/invocations.js'),
  run: () => import('./views/run.js'),
  services: () => import('./views/services.js'),
  playground: () => import('./views/playground.js'),
  approvals: () => import('./views/approvals.js'),
  sessions: () => import('./views/sessions.js'),
  state: () => import('./views/state.js'),
  deployments: () => import('./views/deployments.js'),
  sql: () => import('./views/sql.js'),
  lost: () => import('./views/lost.js'),
};

/** @param {string[]} path @returns {Promise<ViewClass>} */
export async function viewFor(path) {
  let name = path[0] || '';
  if (name === 'invocations' && path.length > 1) name = 'run';
  if (name === 'services' && path.length > 1) name = 'playground';
  const load = /** @type {Record<string, () => Promise<{default: ViewClass}>>} */ (VIEWS)[name] || VIEWS.lost;
  return (await load()).default;
}
