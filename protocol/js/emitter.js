// Typed events. A listener that throws harms nobody: what it threw comes back as an 'error' event.

export class Emitter {
  constructor() {
    this.listeners = new Map();
  }

  /** Returns how to stop listening. */
  on(type, listener) {
    const list = this.listeners.get(type) || [];
    this.listeners.set(type, [...list, listener]);
    return () => this.listeners.set(type, this.listeners.get(type).filter((one) => one !== listener));
  }

  has(type) {
    return (this.listeners.get(type) || []).length > 0;
  }

  emit(type, event) {
    for (const listener of this.listeners.get(type) || []) {
      try {
        listener(event);
      } catch (cause) {
        // A failing 'error' listener has nobody left to tell.
        if (type !== 'error') this.emit('error', failure('listener', { detail: String(cause), cause }));
      }
    }
  }
}

/** An 'error' event of the SDK's own. */
export const failure = (reason, more) => ({ reason, field: '', detail: '', retry_ms: 0, ...more });

/** What send() throws and command() rejects with. */
export class TidegateError extends Error {
  constructor({ reason, field = '', detail = '', retry_ms = 0 }) {
    super(detail || reason);
    this.name = 'TidegateError';
    this.reason = reason;
    this.field = field;
    this.retry_ms = retry_ms;
  }
}
