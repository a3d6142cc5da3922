// Virtual time: nothing happens until advance(), and then in order. Also a seeded random number generator.

/** One clock for everybody in a test. */
export class VirtualClock {
  constructor(startMs = 1_700_000_000_000) {
    this.ms = startMs;
    this.timers = [];
    this.order = 0;
  }

  now() {
    return this.ms;
  }

  setTimeout(callback, ms) {
    const timer = { at: this.ms + Math.max(0, ms), order: this.order++, callback };
    this.timers.push(timer);
    return timer;
  }

  clearTimeout(timer) {
    const at = this.timers.indexOf(timer);
    if (at >= 0) this.timers.splice(at, 1);
  }

  /** Lets ms pass: each timer at its time, promises settled after each. */
  async advance(ms) {
    const until = this.ms + ms;
    await settle();
    for (;;) {
      let next = null;
      for (const timer of this.timers) {
        if (timer.at <= until && (!next || timer.at < next.at || (timer.at === next.at && timer.order < next.order))) {
          next = timer;
        }
      }
      if (!next) break;
      this.clearTimeout(next);
      this.ms = Math.max(this.ms, next.at);
      next.callback();
      await settle();
    }
    this.ms = until;
  }

  /** Advances until condition() holds; throws after limitMs of virtual time. */
  async until(condition, limitMs = 120_000, what = String(condition)) {
    const end = this.ms + limitMs;
    await settle();
    while (!condition()) {
      if (this.ms >= end) throw new Error(`not within ${limitMs} virtual ms: ${what}`);
      const next = Math.min(...this.timers.map((timer) => timer.at), end);
      await this.advance(Math.max(0, next - this.ms));
    }
  }

  /** This clock as one page sees it: after stop() its timers are dead, as those of a closed page. */
  forPage() {
    const own = new Set();
    let alive = true;
    return {
      now: () => this.now(),
      setTimeout: (callback, ms) => {
        const timer = this.setTimeout(() => {
          own.delete(timer);
          if (alive) callback();
        }, ms);
        own.add(timer);
        return timer;
      },
      clearTimeout: (timer) => {
        own.delete(timer);
        this.clearTimeout(timer);
      },
      stop: () => {
        alive = false;
        for (const timer of own) this.clearTimeout(timer);
      },
    };
  }
}

/** Every promise that can settle has settled. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

/** mulberry32: () → [0, 1), the same for the same seed. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
