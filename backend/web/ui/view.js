// The one door to the view library: Preact for the tree, htm for templates without a build step.
import { h, render, Component, Fragment } from '../vendor/preact.js';
import htm from '../vendor/htm.js';

export { h, render, Component, Fragment };
export { useEffect, useLayoutEffect, useMemo, useRef, useState, useCallback } from '../vendor/preact-hooks.js';
export const html = htm.bind(h);

/** Class names from strings and falsy values: cls('row', open && 'is-open'). */
export const cls = (...names) => names.filter(Boolean).join(' ');

/** A value that tells its listeners when it changed. Models extend it; views call `useModel`. */
export class Model {
  #listeners = new Set();
  #queued = false;

  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Listeners run once per microtask however many changes a batch of messages makes. */
  changed() {
    if (this.#queued) return;
    this.#queued = true;
    queueMicrotask(() => {
      this.#queued = false;
      for (const listener of [...this.#listeners]) listener();
    });
  }
}
