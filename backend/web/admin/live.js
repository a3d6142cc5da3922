// The numbers of now, asked for every two seconds, and what they were: a point a second-pair for 15 minutes, a point a
// minute for 24 hours. Both are bounded.
import { Model } from '../ui/view.js';

const EVERY_MS = 2_000;
const FINE_POINTS_MAX = 450;
const COARSE_POINTS_MAX = 1_440;
const COARSE_MS = 60_000;
/** What a point holds beside its time. */
const SERIES = ['perSecond', 'waiting', 'connections', 'chatMs', 'chatSlowMs', 'atTheDoor', 'letIn'];

export class Live extends Model {
  now = null;          // the newest answer
  fine = [];           // { at, and of each of SERIES }
  coarse = [];
  lostSince = 0;       // ms; 0 = the server answers
  #timer = 0;
  #minute = null;

  constructor(account) {
    super();
    this.account = account;
  }

  start() {
    const round = async () => {
      if (document.visibilityState === 'visible' || this.fine.length === 0) await this.#ask();
      this.#timer = setTimeout(round, EVERY_MS);
    };
    round();
    return this;
  }

  stop() { clearTimeout(this.#timer); }

  async #ask() {
    try {
      const answer = await this.account.ask('/api/admin/realtime-stats');
      const before = this.now;
      this.now = answer;
      this.lostSince = 0;
      this.#point(answer, before);
    } catch {
      this.lostSince ||= Date.now();
    }
    this.changed();
  }

  /** Rates are differences of counters; a restart (a counter that fell) begins anew. */
  #point(now, before) {
    const counters = now.counters ?? {};
    const old = before?.counters ?? {};
    const seconds = before ? (now.at_us - before.at_us) / 1e6 : 0;
    const gain = (name) => Math.max(0, (counters[name] ?? 0) - (old[name] ?? 0));
    const point = {
      at: now.at_us / 1000,
      perSecond: seconds > 0 ? gain('messages_accepted') / seconds : 0,
      waiting: now.waiting ?? 0,
      connections: (now.visitors_connected ?? 0) + (now.agents_connected ?? 0),
      atTheDoor: now.admission?.waiting ?? 0,
      letIn: seconds > 0 ? Math.max(0, (now.admission?.admitted ?? 0) - (before?.admission?.admitted ?? 0)) / seconds : 0,
      chatMs: (now.times?.chat_lately.p50_us ?? 0) / 1000,
      chatSlowMs: (now.times?.chat_lately.p99_us ?? 0) / 1000,
    };
    if (before && seconds <= 0) return;
    this.fine.push(point);
    if (this.fine.length > FINE_POINTS_MAX) this.fine.shift();
    const minute = Math.floor(point.at / COARSE_MS);
    if (this.#minute?.minute === minute) {
      const { sum } = this.#minute;
      sum.n += 1;
      for (const key of SERIES) sum.point[key] += (point[key] - sum.point[key]) / sum.n;
    } else {
      this.#minute = { minute, sum: { n: 1, point: { ...point } } };
      this.coarse.push(this.#minute.sum.point);
      if (this.coarse.length > COARSE_POINTS_MAX) this.coarse.shift();
    }
  }
}
