// The visitor's side of the chat: token, connection, the conversation in front, its draft, its place in the queue.
import { Tidegate, complete } from '/sdk/tidegate.js';
import { api } from '../ui/api.js';
import { Chat } from '../ui/chat.js';
import { readJson } from '../ui/store.js';
import { language } from '../ui/text.js';

const TOKEN_RETRY_MS = [1_000, 2_000, 4_000, 8_000, 15_000];
const CACHED_MESSAGES = 30;
const DRAFT_SAVE_MS = 150;

export class Visitor extends Chat {
  shop = {};
  service = { agentsOnline: -1, answerMs: 0 }; // -1: not known yet
  queue = null;                                // { conversation, position, etaMs, progress }
  draft = '';
  asking = false;                              // "End this chat?" is shown
  failing = 0;                                 // tries in a row in which the server didn't answer
  early = [];                                  // written before the first token came; goes into the outbox then
  #bridge;
  #widget;
  #token = '';
  #draftTimer = 0;
  #unread = -1;

  constructor(bridge, widget, shop) {
    super({ side: 'visitor', readHistory: (id, range) => this.#history(id, range), isShown: () => this.#visible });
    this.#bridge = bridge;
    this.#widget = widget;
    this.shop = shop;
    this.draft = bridge.tab.get('draft') ?? '';
    this.early = readJson(bridge.tab, 'early', []);
    this.#restore();
    bridge.onShown(() => this.#seen());
    document.addEventListener('visibilitychange', () => this.#seen());
  }

  get name() { return this.#bridge.config.name || this.shop.name || ''; }
  get greeting() { return this.#bridge.config.greeting || this.shop.greeting || ''; }
  get logo() { return this.#bridge.config.logo || ''; }
  get questions() { return (this.#bridge.config.questions || '').split('|').map((line) => line.trim()).filter(Boolean).slice(0, 4); }
  get embedded() { return this.#bridge.embedded; }

  get #visible() { return document.visibilityState === 'visible' && this.#bridge.shown; }

  /** Conversations in the order in which they began; the last is the one in front. */
  get line() {
    return [...this.entries.values()].filter((entry) => entry.state || entry.timeline.size).sort((a, b) => (a.state?.opened_at_us ?? 0) - (b.state?.opened_at_us ?? 0));
  }

  get current() { return this.line.at(-1) ?? null; }
  get status() { return this.current?.state?.status ?? ''; }
  get nobodyHere() { return this.service.agentsOnline === 0 && this.status !== 'chatting'; }

  get outbox() {
    return [...super.outbox, ...this.early.map((item) => ({ ...item, state: 'waiting' }))];
  }

  async start() {
    const url = this.#bridge.local.get('ws_url');
    this.#token = this.#bridge.local.get('token') ?? '';
    if (url && this.#token) this.#connect(url);
    for (;;) {
      try {
        const url = await this.#newToken();
        if (!this.sdk) this.#connect(url);
        return;
      } catch {
        this.failing += 1;
        this.changed();
        if (this.sdk) return; // the SDK asks for a token itself when it needs one
        await new Promise((resolve) => { this.retryNow = resolve; setTimeout(resolve, TOKEN_RETRY_MS[Math.min(this.failing, TOKEN_RETRY_MS.length) - 1]); });
      }
    }
  }

  /** A new token for the same visitor; with it come the shop's public settings. */
  async #newToken() {
    let answer;
    try {
      answer = await api('/api/visitor/token', { body: { widget: this.#widget, ...(this.#token ? { visitor: this.#token } : {}) } });
    } catch (error) {
      if (!this.#token || (error.status !== 401 && error.status !== 403 && error.status !== 422 && error.status !== 400)) throw error;
      answer = await api('/api/visitor/token', { body: { widget: this.#widget } }); // the old token is of another key
    }
    this.failing = 0;
    this.#token = answer.token;
    this.shop = { name: answer.widget?.name, greeting: answer.widget?.greeting, accent: answer.widget?.accent };
    this.#setAgents(answer.agents_online, answer.answer_eta_ms);
    this.#bridge.local.set('token', answer.token);
    this.#bridge.local.set('ws_url', answer.ws_url);
    this.#bridge.local.set('shop', JSON.stringify(this.shop));
    this.onShop?.(this.shop);
    this.changed();
    return answer.ws_url;
  }

  #connect(url) {
    let first = this.#token;
    const sdk = new Tidegate({
      url, family: /MicroMessenger/i.test(navigator.userAgent) ? 'wechat' : 'h5', codec: 'fb', locale: language(), page: this.#bridge.page,
      storage: this.#bridge.tab, storageKey: 'sdk', ticket: this.#bridge.local.get('ticket') ?? '', ...(this.#bridge.locks === null ? { locks: null } : {}),
      token: async (why) => {
        const held = first;
        first = '';
        if (held && why !== 'expired') return held;
        await this.#newToken();
        return this.#token;
      },
    });
    this.attach(sdk);
    sdk.on('queue', (update) => this.#onQueue(update));
    sdk.on('ticket', ({ ticket }) => this.#bridge.local.set('ticket', ticket)); // a closed tab keeps its place
    sdk.start();
    for (const item of this.early.splice(0)) this.#put(item.text);
    this.#saveEarly();
    this.#bridge.tab.set('live', '1');
  }

  /** Starts again after the chat was taken over by another window. */
  comeBack() { this.sdk?.start(); }

  say(text) {
    this.setDraft('');
    if (this.sdk) this.#put(text);
    else {
      this.early.push({ key: `early${Date.now()}`, text, at: Date.now() * 1000 });
      this.#saveEarly();
      this.changed();
    }
  }

  #put(text) {
    try {
      this.send(text); // no conversation is named: if the agent closes it at this very moment, a new one begins
    } catch {
      this.setDraft(text); // the outbox is full: it stays where one can see it
    }
  }

  setDraft(text) {
    this.draft = text;
    clearTimeout(this.#draftTimer);
    this.#draftTimer = setTimeout(() => this.#bridge.tab.set('draft', text), DRAFT_SAVE_MS);
    if (!text) this.#bridge.tab.set('draft', '');
    this.changed();
  }

  typing(active) {
    if (this.status === 'chatting') this.sdk?.typing(this.current.id, active);
  }

  ask(asking) { this.asking = asking; this.changed(); }

  async end() {
    this.asking = false;
    this.changed();
    if (!this.status || this.status === 'closed') return;
    await this.sdk?.command({ op: 'close', conversation: this.current.id }).catch(() => this.ask(true));
  }

  minimize() { this.#bridge.post({ type: 'minimize' }); }

  seen() { if (this.current) this.markRead(this.current); this.#tellUnread(); }
  #seen() { if (this.#visible) this.onVisible?.(); }

  // --- what the socket says

  welcomed(welcome) {
    this.#setAgents(welcome.agents_online);
    if (this.current) this.open(this.current);
  }

  stateChanged(entry, old) {
    const { state } = entry;
    if (state.status === 'waiting') this.#onQueue({ conversation: entry.id, position: state.position, eta_ms: state.eta_ms });
    else if (this.queue?.conversation === entry.id) this.queue = null;
    if (state.status === 'chatting' && this.service.agentsOnline < 1) this.#setAgents(1);
    if (old && old.status !== state.status) this.asking = false;
    this.#cache();
  }

  messageCame() {
    this.#cache();
    this.#tellUnread();
  }

  itemChanged() { this.#cache(); }

  #setAgents(online, answerMs = this.service.answerMs) {
    if (online === undefined) return;
    this.service = { agentsOnline: online, answerMs: answerMs ?? 0 };
    this.changed();
  }

  /** The bar only moves forward: from where this visitor began, never back when the estimate changes. */
  #onQueue(update) {
    if (update.agents_online !== undefined && update.kind !== 'state') this.#setAgents(update.agents_online);
    const conversation = update.conversation || this.current?.id;
    if (!update.position || this.entries.get(conversation)?.state?.status !== 'waiting') return this.changed();
    const kept = readJson(this.#bridge.tab, 'queue');
    const before = kept?.conversation === conversation ? kept : { conversation, first: update.position, progress: 0.06 };
    const progress = Math.max(before.progress, 1 - update.position / (before.first + 1));
    this.queue = { conversation, first: before.first, position: update.position, etaMs: update.eta_ms, progress };
    this.#bridge.tab.set('queue', JSON.stringify({ conversation, first: before.first, progress }));
    this.changed();
  }

  async #history(conversation, range) {
    const answer = await api('/api/visitor/messages', { token: this.#token, query: { conversation, ...range } });
    return (answer.messages ?? []).map((message) => complete('message', message));
  }

  // --- what survives a reload in this tab: enough to draw at once, before anything is fetched

  #restore() {
    const kept = readJson(this.#bridge.tab, 'cache');
    if (!kept?.state) return;
    this.setState(kept.state);
    this.addMessages(kept.state.conversation, kept.messages ?? []);
  }

  #cacheTimer = 0;
  #cache() {
    clearTimeout(this.#cacheTimer);
    this.#cacheTimer = setTimeout(() => {
      const entry = this.current;
      if (entry?.state) this.#bridge.tab.set('cache', JSON.stringify({ state: entry.state, messages: entry.timeline.messages.slice(-CACHED_MESSAGES) }));
    }, 200);
  }

  #saveEarly() { this.#bridge.tab.set('early', JSON.stringify(this.early)); }

  #tellUnread() {
    const count = this.#visible ? 0 : this.line.reduce((sum, entry) => sum + this.unread(entry), 0);
    if (count === this.#unread) return;
    this.#unread = count;
    this.#bridge.post({ type: 'unread', count });
  }
}
