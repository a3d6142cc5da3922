// One person's conversations as the pages see them: the SDK's events joined with history read over HTTP. Used by the
// visitor's chat and by the agent console; knows no DOM beyond the page's visibility.
import { Model } from './view.js';
import { Timeline, rowsOf } from './timeline.js';

const CALM_MS = 2_000;          // a lost connection is shown only after this long
const LATE_MS = 3_000;          // what was said and is not answered is called late only after this long
const TYPING_MS_MAX = 6_500;    // a typing notice without a successor fades
const HISTORY_PAGE = 40;
const CATCH_UP_MAX = 100;
const KEYS_MAX = 1_000;          // rows that keep the key they had in the outbox
const HISTORY_RETRY_MS = 3_000;

/** One conversation: its newest state, its messages, who types. */
export class Entry {
  constructor(id, messages_max) {
    this.id = id;
    this.state = null;
    this.timeline = new Timeline(messages_max);
    this.typing = null;         // { name, timer }
    this.loading = false;       // a page of history is on its way
    this.earlier = false;       // and it is an earlier one
    this.opened = false;        // the newest page was read
    this.version = 0;
    this.rows = null;
    this.rowsVersion = -1;
  }

  touch() { this.version += 1; }
}

export class Chat extends Model {
  entries = new Map();
  connection = { state: 'connecting', since: Date.now(), shown: 'quiet', code: 0, wait: null };
  welcome = null;
  #sdk = null;
  #keys = new Map();            // "conversation/seq" → the outbox key a row had
  #outboxVersion = 0;
  #off = [];
  #calm = 0;
  #patience = 0;

  /** side: 'visitor' | 'agent'. readHistory(conversation, { after?, before?, limit }) → messages, oldest first. */
  constructor({ side, readHistory, messages_max = 2000, isShown = () => true }) {
    super();
    this.side = side;
    this.readHistory = readHistory;
    this.messages_max = messages_max;
    this.isShown = isShown;
  }

  get sdk() { return this.#sdk; }

  attach(sdk) {
    this.#sdk = sdk;
    this.#off = [
      sdk.on('state', (change) => this.#onState(change)),
      sdk.on('welcome', (welcome) => this.#onWelcome(welcome)),
      sdk.on('conversation', (state) => this.setState(state)),
      sdk.on('message', (message) => this.#onMessage(message)),
      sdk.on('sent', (item) => this.#onSent(item)),
      sdk.on('receipt', (receipt) => this.#onReceipt(receipt)),
      sdk.on('typing', (notice) => this.#onTyping(notice)),
      sdk.on('history', (need) => this.#onHistory(need)),
      sdk.on('wait', (wait) => this.#onWait(wait)),
    ];
    for (const state of sdk.conversations.values()) this.setState(state);
  }

  detach() {
    for (const off of this.#off) off();
    this.#off = [];
    clearTimeout(this.#calm);
    clearTimeout(this.#patience);
    this.#sdk?.stop();
    this.#sdk = null;
  }

  entry(id) {
    let entry = this.entries.get(id);
    if (!entry) this.entries.set(id, (entry = new Entry(id, this.messages_max)));
    return entry;
  }

  /** The newest state of a conversation; marks only grow. */
  setState(state) {
    const entry = this.entry(state.conversation);
    const old = entry.state;
    const marks = {};
    for (const mark of ['visitor_delivered', 'visitor_read', 'agent_delivered', 'agent_read', 'seq']) marks[mark] = Math.max(state[mark] ?? 0, old?.[mark] ?? 0);
    entry.state = { ...state, ...marks };
    entry.touch();
    this.stateChanged?.(entry, old);
    this.changed();
    return entry;
  }

  /** Messages from history or from a cache. */
  addMessages(id, messages) {
    const entry = this.entry(id);
    if (entry.timeline.add(messages)) entry.touch();
    this.changed();
    return entry;
  }

  send(text, conversation) {
    const item = this.#sdk.send(text, conversation ? { conversation } : undefined);
    this.#touchOutbox();
    return item;
  }

  resend(item) {
    this.#sdk.resend(item.key);
    this.#touchOutbox();
  }

  discard(item) {
    this.#sdk.discard(item.key);
    this.#touchOutbox();
  }

  /** Reads the newest page of a conversation once; later messages come by the socket. */
  async open(entry) {
    if (entry.opened || entry.loading) return;
    entry.loading = true;
    try {
      this.addMessages(entry.id, await this.readHistory(entry.id, { limit: HISTORY_PAGE }));
      entry.opened = true;
      if (entry.timeline.size === 0 || entry.timeline.first?.seq === 1) entry.timeline.complete = true;
    } catch {
      setTimeout(() => this.open(entry), HISTORY_RETRY_MS);
    } finally {
      entry.loading = false;
      entry.touch();
      this.changed();
    }
  }

  async loadEarlier(entry) {
    const first = entry.timeline.first;
    if (entry.loading || entry.timeline.complete || !first) return;
    entry.loading = true;
    entry.earlier = true;
    this.changed();
    try {
      const messages = await this.readHistory(entry.id, { before: first.seq, limit: HISTORY_PAGE });
      if (messages.length === 0) entry.timeline.complete = true;
      this.addMessages(entry.id, messages);
    } catch {
      // stays as it is; the next scroll to the top tries again
    } finally {
      entry.loading = false;
      entry.earlier = false;
      entry.touch();
      this.changed();
    }
  }

  /** Tells the server that a person saw everything of this conversation that is here. */
  markRead(entry) {
    const last = entry?.timeline.last;
    if (!last || !entry.state || !this.#sdk || !this.isShown(entry)) return;
    const mark = `${this.side}_read`;
    if (entry.state[mark] >= last.seq) return;
    entry.state = { ...entry.state, [mark]: last.seq };
    this.#sdk.read(entry.id, last.seq);
    this.changed();
  }

  /** Messages of the other side that this side has not seen. */
  unread(entry) {
    const read = entry.state?.[`${this.side}_read`] ?? 0;
    const held = entry.timeline.messages;
    if (held.length) return held.filter((message) => message.seq > read && message.content !== 'system' && !this.isMine(message)).length;
    return 0;
  }

  isMine(message) {
    return this.side === 'visitor' ? message.sender_role === 'visitor' : message.sender_role !== 'visitor';
  }

  /** The rows of these entries one after another, then the outbox of the last. The same array while nothing changed. */
  rows(entries, belongs = () => true) {
    const version = `${this.#outboxVersion} ${entries.map((entry) => `${entry.id}:${entry.version}`).join()}`;
    if (this.rowsVersion === version) return this.rowsCache;
    const messages = entries.flatMap((entry) => entry.timeline.messages);
    const marks = (message) => {
      const state = this.entries.get(message.conversation)?.state ?? {};
      const other = this.side === 'visitor' ? 'agent' : 'visitor';
      return { delivered: state[`${other}_delivered`] ?? 0, read: state[`${other}_read`] ?? 0 };
    };
    this.rowsVersion = version;
    this.rowsCache = rowsOf(messages, {
      mine: (message) => this.isMine(message), marks,
      outbox: this.outbox.filter(belongs), keyOf: (message) => this.#keys.get(`${message.conversation}/${message.seq}`),
    });
    return this.rowsCache;
  }

  get outbox() {
    return (this.#sdk?.outbox ?? []).map((item) => ({ ...item, at: item.at * 1000 }));
  }

  get waitingToSend() { return this.outbox.filter((item) => item.state === 'waiting').length; }

  /** The connection is there, and nobody behind it has answered what was said: it is kept, and goes on by itself. */
  get isLate() { return this.#lateInMs <= 0; }

  /** How long until that is so; Infinity: nothing waits for an answer, or the page says already why. */
  get #lateInMs() {
    const { shown, since, wait } = this.connection;
    const oldest = this.#sdk?.outbox.find((item) => item.state === 'waiting');
    return shown === 'open' && !wait && oldest ? Math.max(oldest.at, since) + LATE_MS - Date.now() : Infinity;
  }

  /** Looks again when something becomes late. */
  #watch() {
    clearTimeout(this.#patience);
    const inMs = this.#lateInMs;
    if (inMs > 0 && inMs < Infinity) this.#patience = setTimeout(() => this.#watch(), inMs);
    this.changed();
  }

  #remember(conversation, seq, key) {
    this.#keys.set(`${conversation}/${seq}`, key);
    if (this.#keys.size > KEYS_MAX) this.#keys.delete(this.#keys.keys().next().value);
  }

  #touchOutbox() {
    this.#outboxVersion += 1;
    this.#watch();
  }

  #onState(change) {
    clearTimeout(this.#calm);
    const lost = change.state === 'reconnecting' || change.state === 'connecting';
    const since = lost && this.connection.shown !== 'open' && this.connection.since ? this.connection.since : Date.now();
    const shown = lost ? (this.connection.shown === 'lost' ? 'lost' : 'quiet') : change.state;
    this.connection = { state: change.state, since, shown, code: change.code, wait: this.connection.wait };
    if (lost && shown === 'quiet') {
      this.#calm = setTimeout(() => {
        this.connection = { ...this.connection, shown: 'lost' };
        this.changed();
      }, CALM_MS);
    }
    this.#watch();
  }

  /** `first`: the place at which this page began to wait; the bar starts there. */
  #onWait(wait) {
    const first = this.connection.wait?.first ?? wait.place;
    this.connection = { ...this.connection, wait: { ...wait, first, heardAt: Date.now() } };
    this.changed();
  }

  #onWelcome(welcome) {
    this.welcome = welcome;
    this.connection = { ...this.connection, wait: null };
    for (const { state } of welcome.conversations) this.setState(state);
    this.welcomed?.(welcome);
    this.#watch();
  }

  #onMessage(message) {
    if (message.key) this.#remember(message.conversation, message.seq, message.key);
    const entry = this.addMessages(message.conversation, [message]);
    const { size } = entry.timeline;
    if (size > (this.isShown(entry) ? 4 : 1.2) * this.messages_max) entry.timeline.trim();
    if (entry.typing && !this.isMine(message)) this.#clearTyping(entry);
    if (entry.state && entry.state.seq < message.seq) entry.state = { ...entry.state, seq: message.seq };
    this.messageCame?.(entry, message);
  }

  #onSent(item) {
    if (item.state === 'sent' && item.seq) {
      this.#remember(item.conversation, item.seq, item.key);
      this.addMessages(item.conversation, [{
        conversation: item.conversation, seq: item.seq, at_us: item.at * 1000, sender_role: this.side === 'visitor' ? 'visitor' : 'agent',
        sender: this.welcome?.principal ?? '', sender_name: this.welcome?.name ?? '', session: item.session, n: item.n, content: 'text', text: item.text, system: 'none', close_reason: 'none',
      }]);
    }
    this.#touchOutbox();
    this.itemChanged?.(item);
  }

  #onReceipt(receipt) {
    const entry = this.entries.get(receipt.conversation);
    if (!entry?.state) return;
    const delivered = `${receipt.side}_delivered`;
    const read = `${receipt.side}_read`;
    entry.state = { ...entry.state, [delivered]: Math.max(entry.state[delivered], receipt.delivered), [read]: Math.max(entry.state[read], receipt.read) };
    entry.touch();
    this.changed();
  }

  #onTyping(notice) {
    if (notice.side === this.side) return;
    const entry = this.entries.get(notice.conversation);
    if (!entry) return;
    this.#clearTyping(entry);
    if (notice.active) entry.typing = { name: notice.name, timer: setTimeout(() => { this.#clearTyping(entry); this.changed(); }, TYPING_MS_MAX) };
    this.changed();
  }

  #clearTyping(entry) {
    clearTimeout(entry.typing?.timer);
    entry.typing = null;
  }

  /** What the socket could not replay is read over HTTP, and only then acknowledged. */
  async #onHistory({ conversation, after, to, incarnation, reset }) {
    const entry = this.entry(conversation);
    let from = Math.max(after, reset ? 0 : entry.timeline.last?.seq ?? 0);
    if (reset || to - from > CATCH_UP_MAX) { // too far behind: begin at the newest, older pages are read when scrolled to
      entry.timeline = new Timeline(this.messages_max);
      from = Math.max(0, to - CATCH_UP_MAX);
      entry.touch();
    }
    entry.opened = true;
    try {
      while (from < to) {
        const page = await this.readHistory(conversation, { after: from, limit: CATCH_UP_MAX });
        if (page.length === 0) break;
        this.addMessages(conversation, page);
        from = page[page.length - 1].seq;
      }
      this.#sdk?.delivered(conversation, to, incarnation);
      this.messageCame?.(entry, entry.timeline.last);
    } catch {
      setTimeout(() => this.#sdk && this.#onHistory({ conversation, after: from, to, incarnation, reset: false }), HISTORY_RETRY_MS);
    }
  }
}
