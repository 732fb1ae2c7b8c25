// @ts-check
/**
 * One WebSocket for the whole tab: which invocations have changed.
 *
 * A view that reads a list after `ready`, and then takes all frames, misses nothing. Whenever that
 * cannot be said any more (a frame was missed, the server was away) `ready` comes again.
 */
import { learnServerTime } from './format.js';

const PATH = '/holdfast/v1/live';
const RETRY_MS = [200, 500, 1000, 2000];

/** @typedef {{rev: number, now: number, rows: any[], gone: string[], more: number}} Frame */
/** @typedef {{ready: () => void, frame: (frame: Frame) => void}} Listener */

class Live extends EventTarget {
  state = 'connecting';
  /** @type {Set<Listener>} */
  #listeners = new Set();
  /** @type {WebSocket | null} */
  #socket = null;
  #revision = -1;
  #tries = 0;
  #timer = 0;

  start() {
    document.addEventListener('visibilitychange', () => (document.hidden ? this.#close('paused') : this.#open()));
    this.#open();
  }

  /** @param {Listener} listener @returns {() => void} stops listening */
  listen(listener) {
    this.#listeners.add(listener);
    // Also while nothing is live: a page without news is better than none.
    listener.ready();
    return () => this.#listeners.delete(listener);
  }

  #open() {
    clearTimeout(this.#timer);
    if (this.#socket) return;
    this.#revision = -1;
    const socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${PATH}`);
    this.#socket = socket;
    socket.onmessage = (event) => this.#take(JSON.parse(event.data));
    socket.onclose = () => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      this.#say('reconnecting');
      this.#timer = setTimeout(() => this.#open(), RETRY_MS[Math.min(this.#tries++, RETRY_MS.length - 1)]);
    };
  }

  /** @param {string} state */
  #close(state) {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) socket.close();
    this.#say(state);
  }

  /** @param {Frame} frame */
  #take(frame) {
    learnServerTime(frame.now);
    const isFirst = this.#revision < 0;
    const isNext = frame.rev === this.#revision + 1;
    this.#revision = frame.rev;
    if (isFirst) {
      this.#tries = 0;
      this.#say('live');
    }
    if (isFirst || !isNext || frame.more) for (const each of [...this.#listeners]) each.ready();
    else for (const each of [...this.#listeners]) each.frame(frame);
  }

  /** @param {string} state */
  #say(state) {
    this.state = state;
    this.dispatchEvent(new Event('state'));
  }
}

export const live = new Live();
