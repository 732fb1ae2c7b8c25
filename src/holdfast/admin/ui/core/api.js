// @ts-check
/** Calls of the admin API. An error says which call failed, why, and what to do. */

export class ApiError extends Error {
  /** @param {string} call @param {number} status @param {{message?: string, error_code?: string, hint?: string}} body */
  constructor(call, status, body) {
    super(body.message || `The server answered with status ${status}.`);
    this.call = call;
    this.status = status;
    this.code = body.error_code || '';
    this.hint = body.hint || '';
  }
}

/**
 * @param {string} method @param {string} path @param {unknown} [body] @param {AbortSignal} [signal]
 * @returns {Promise<any>} the JSON of the answer; null when it has none
 */
export async function ask(method, path, body, signal) {
  const call = `${method} ${path}`;
  let response;
  try {
    response = await fetch(path, {
      method,
      signal,
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (signal && signal.aborted) throw error;
    throw new ApiError(call, 0, { message: 'The server cannot be reached.', hint: 'It is asked again as soon as it is back.' });
  }
  const text = await response.text();
  let content = null;
  try {
    content = text ? JSON.parse(text) : null;
  } catch {
    if (response.ok) throw new ApiError(call, response.status, { message: 'The answer is no JSON.' });
  }
  if (!response.ok) throw new ApiError(call, response.status, content || {});
  return content;
}

/** @param {string} path @param {AbortSignal} [signal] */
export const get = (path, signal) => ask('GET', path, undefined, signal);
