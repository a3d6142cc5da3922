// The agent's desk: their conversations over the socket, the queue and everybody's over REST, drafts, canned replies,
// status. The views in this folder draw it and call it.
import { Tidegate, complete } from '/sdk/tidegate.js';
import { Chat } from '../ui/chat.js';
import { localStore, tabStore } from '../ui/store.js';
import { language, t } from '../ui/text.js';
import { chime } from './chime.js';

const LIST_EVERY_MS = 8_000;
const LIST_SOON_MS = 400;
const WATCH_EVERY_MS = 3_000;
const HELD_CONVERSATIONS_MAX = 100; // beyond it, those that are over are forgotten, oldest first
const HELD_MESSAGES_MAX = 600; // of one conversation in memory; older ones are read again when scrolled to

export class Desk extends Chat {
  tab = 'mine';                 // 'mine' | 'waiting' | 'all'
  active = '';                  // the conversation in front
  panel = '';                   // 'customer' on narrow screens
  lists = { waiting: null, all: null };
  queue = { waiting: 0, longestMs: 0, agentsOnline: 0, at: Date.now() };
  me = { status: '', open: 0, capacity: 0 }; // status '': not known before Welcome
  agents = new Map();           // id → { id, name, status, open, capacity }
  details = new Map();          // conversation → { visitor, earlier }
  replies = [];
  asking = '';                  // '' | 'transfer' | 'close' | 'canned'
  palette = false;
  notice = '';
  arrived = new Set();          // assigned while the console was open: slides in
  #account;
  #store = localStore('tidegate.agent.');
  #drafts = new Map();
  #timers = [];
  #soon = 0;
  #unread = new Map();          // conversation → from the list, until its messages are held

  constructor(account) {
    super({ side: 'agent', readHistory: (id, range) => this.#history(id, range), messages_max: HELD_MESSAGES_MAX, isShown: (entry) => this.#inSight(entry) });
    this.#account = account;
    this.sound = this.#store.get('sound') !== 'off';
    this.badge = this.#store.get('badge') !== 'off';
    this.me = { ...this.me, capacity: account.agent?.capacity ?? 0 };
  }

  get account() { return this.#account; }
  get id() { return this.#account.agent?.id ?? ''; }
  get entryInFront() { return this.active ? this.entries.get(this.active) ?? null : null; }

  start() {
    const sdk = new Tidegate({
      url: this.#account.session.ws_url, token: (why) => { if (why === 'expired') this.#account.signOut(); return this.#account.token; },
      family: 'h5', codec: 'fb', locale: language(), page: '', storage: tabStore('tidegate.agent.'), storageKey: `sdk.${this.id}`,
    });
    this.attach(sdk);
    sdk.on('queue', (update) => this.#onQueue(update));
    sdk.on('presence', (presence) => this.#onPresence(presence));
    sdk.start();
    this.#timers = [setInterval(() => this.refresh(), LIST_EVERY_MS), setInterval(() => this.#watch(), WATCH_EVERY_MS)];
    this.refresh();
    this.#ask('/api/agent/canned-replies').then((answer) => { this.replies = answer?.replies ?? []; this.changed(); });
    window.addEventListener('hashchange', this.#onHash);
    document.addEventListener('visibilitychange', this.#onVisible);
    window.addEventListener('focus', this.#onVisible);
    this.#onHash();
    return this;
  }

  leave() {
    for (const timer of this.#timers) clearInterval(timer);
    window.removeEventListener('hashchange', this.#onHash);
    document.removeEventListener('visibilitychange', this.#onVisible);
    window.removeEventListener('focus', this.#onVisible);
    this.detach();
  }

  /** REST; a failure is null (a banner already tells of a lost server). */
  async #ask(path, options) {
    try { return await this.#account.ask(path, options); } catch { return null; }
  }

  // --- lists

  isMineState(state) { return state && state.mine !== false && state.agent === this.id && state.status === 'chatting'; }

  get mine() { return [...this.entries.values()].filter((entry) => this.isMineState(entry.state)); }

  /** The rows of a tab, as states. */
  rowsOf(tab) {
    if (tab === 'mine') return this.mine.map((entry) => entry.state).sort(byUrgency);
    return this.lists[tab]?.map((row) => {
      const live = this.entries.get(row.conversation)?.state;
      return live && live.last_at_us >= row.last_at_us ? live : row;
    }) ?? null;
  }

  count(tab) {
    if (tab === 'mine') return this.mine.length;
    if (tab === 'waiting') return this.queue.waiting;
    return this.lists.all?.length ?? 0;
  }

  unreadOf(id) {
    const entry = this.entries.get(id);
    return entry?.timeline.size ? this.unread(entry) : this.#unread.get(id) ?? 0;
  }

  get unreadTotal() { return this.mine.reduce((sum, entry) => sum + this.unreadOf(entry.id), 0); }

  async refresh() {
    const [waiting, all, agents] = await Promise.all([
      this.#list('waiting'), this.#list('all'), this.#ask('/api/agent/agents'),
    ]);
    if (waiting) this.lists.waiting = waiting;
    if (all) this.lists.all = all;
    for (const agent of agents?.agents ?? []) this.agents.set(agent.id, agent);
    this.#forget();
    this.changed();
  }

  /** A console that runs all day keeps its memory: what is over and not in front can be read again. */
  #forget() {
    const over = [...this.entries.values()].filter((entry) => entry.id !== this.active && !this.isMineState(entry.state));
    for (const entry of over.slice(0, Math.max(0, this.entries.size - HELD_CONVERSATIONS_MAX))) {
      this.entries.delete(entry.id);
      this.arrived.delete(entry.id);
      this.#unread.delete(entry.id);
    }
  }

  refreshSoon() {
    clearTimeout(this.#soon);
    this.#soon = setTimeout(() => this.refresh(), LIST_SOON_MS);
  }

  async #list(filter, q = '') {
    const answer = await this.#ask('/api/agent/conversations', { query: { filter, limit: 50, q } });
    return answer?.conversations.map((row) => {
      if (row.unread !== undefined) this.#unread.set(row.conversation, row.unread);
      return complete('conversation_state', row);
    }) ?? null;
  }

  search(q) { return this.#list('all', q); }

  // --- what is in front

  show(tab) {
    this.tab = tab;
    this.refreshSoon();
    this.changed();
  }

  /** The address names what is in front, so the browser's (and the phone's) back button works. */
  go(id, panel = '') {
    location.hash = id ? `#/${id}${panel ? `/${panel}` : ''}` : '#/';
  }

  #onHash = () => {
    const [, id = '', panel = ''] = location.hash.split('/');
    const before = this.entryInFront;
    this.active = id;
    this.panel = panel;
    this.asking = '';
    if (before && before.id !== id) {
      before.timeline.trim();
      before.touch();
    }
    if (id) this.#front(id);
    this.changed();
  };

  async #front(id) {
    const row = [...(this.lists.waiting ?? []), ...(this.lists.all ?? [])].find((state) => state.conversation === id);
    const entry = this.entry(id);
    if (!entry.state && row) this.setState(row);
    await this.open(entry);
    const answer = await this.#ask(`/api/agent/conversations/${id}`);
    if (!answer) return;
    if (!this.isMineState(entry.state) || !entry.state) this.setState(complete('conversation_state', answer.conversation));
    this.details.set(id, { visitor: answer.visitor ?? {}, earlier: (answer.earlier ?? []).map((state) => complete('conversation_state', state)) });
    while (this.details.size > 50) this.details.delete(this.details.keys().next().value);
    this.changed();
  }

  /** A conversation that one only reads along has no socket behind it: its news is asked for. */
  async #watch() {
    const entry = this.entryInFront;
    if (!entry?.state || this.isMineState(entry.state) || document.visibilityState !== 'visible' || entry.state.status === 'closed') return;
    const answer = await this.#ask(`/api/agent/conversations/${entry.id}/messages`, { query: { limit: 50 } });
    if (!answer) return;
    this.addMessages(entry.id, answer.messages.map((message) => complete('message', message)));
    if (answer.state && !this.isMineState(entry.state)) this.setState(complete('conversation_state', answer.state));
  }

  async #history(id, range) {
    const answer = await this.#account.ask(`/api/agent/conversations/${id}/messages`, { query: range });
    return (answer.messages ?? []).map((message) => complete('message', message));
  }

  #inSight(entry) { return entry.id === this.active && document.visibilityState === 'visible' && this.isMineState(entry.state); }
  #onVisible = () => { if (document.visibilityState === 'visible') { this.onVisible?.(); this.changed(); } };

  seen() {
    const entry = this.entryInFront;
    if (!entry) return;
    this.#unread.delete(entry.id);
    this.markRead(entry);
  }

  // --- what the agent does

  draft(id) {
    if (!this.#drafts.has(id)) this.#drafts.set(id, this.#store.get(`draft.${id}`) ?? '');
    return this.#drafts.get(id);
  }

  setDraft(id, text) {
    this.#drafts.set(id, text);
    if (text) this.#store.set(`draft.${id}`, text);
    else this.#store.remove(`draft.${id}`);
    this.changed();
  }

  say(text) {
    const entry = this.entryInFront;
    if (!entry) return;
    this.setDraft(entry.id, '');
    try {
      this.send(text, entry.id);
    } catch (error) {
      this.setDraft(entry.id, text);
      this.tell(t('failedReason', error.reason) ?? t('somethingWrong'));
    }
  }

  async #command(request) {
    this.asking = '';
    this.changed();
    try {
      return await this.sdk.command(request);
    } catch (error) {
      this.tell(error.detail || error.message || t('somethingWrong'));
      return null;
    } finally {
      this.refreshSoon();
    }
  }

  take(id = this.active) { return this.#command({ op: 'take', conversation: id }).then((state) => state && (this.setState(state), this.show('mine'), this.go(id))); }
  takeNext() { const next = this.lists.waiting?.[0]; if (next) this.take(next.conversation); }
  close(id = this.active) { return this.#command({ op: 'close', conversation: id }); }
  transfer(agent, id = this.active) { return this.#command({ op: 'transfer', conversation: id, ...(agent ? { agent } : {}) }); }
  async setStatus(status) {
    const before = this.me;
    this.me = { ...this.me, status };
    this.changed();
    if (!await this.#command({ op: 'set_status', status })) { this.me = before; this.changed(); }
  }

  ask(what) { this.asking = this.asking === what ? '' : what; if (what === 'transfer') this.refreshSoon(); this.changed(); }
  openPalette(open) { this.palette = open; this.changed(); }
  toggle(setting) {
    this[setting] = !this[setting];
    this.#store.set(setting, this[setting] ? 'on' : 'off');
    this.changed();
  }

  async saveReplies(replies) {
    const answer = await this.#ask('/api/agent/canned-replies', { method: 'PUT', body: { replies } });
    if (answer) this.replies = answer.replies;
    this.tell(answer ? t('saved') : t('somethingWrong'));
    return Boolean(answer);
  }

  /** A line that goes away by itself. */
  tell(text) {
    this.notice = text;
    clearTimeout(this.noticeTimer);
    this.noticeTimer = setTimeout(() => { this.notice = ''; this.changed(); }, 5_000);
    this.changed();
  }

  // --- what the socket says

  welcomed(welcome) {
    this.me = { ...this.me, status: welcome.status, capacity: welcome.capacity || this.me.capacity };
    this.refreshSoon();
    if (this.active) this.#front(this.active);
  }

  stateChanged(entry, old) {
    const { state } = entry;
    const mine = this.isMineState(state);
    if (mine && !this.isMineState(old) && this.welcome && this.sdk?.state === 'open' && state.assigned_at_us > (Date.now() - 60_000) * 1000) {
      this.arrived.add(entry.id);
      if (this.sound && entry.id !== this.active) chime('assigned');
    }
    if (!mine && old && this.isMineState(old)) this.refreshSoon();
    this.me = { ...this.me, open: this.mine.length };
  }

  messageCame(entry, message) {
    if (!message || !entry.state) return;
    const text = message.content === 'text';
    const byVisitor = message.sender_role === 'visitor';
    // What a bot says is no answer: the visitor still waits for one.
    const stays = !text || message.sender_role === 'bot';
    const since = stays ? entry.state.unanswered_since_us : byVisitor ? entry.state.unanswered_since_us || message.at_us : 0;
    if (message.seq >= entry.state.seq) entry.state = { ...entry.state, unanswered_since_us: since, ...(text ? { last_text: message.text, last_at_us: message.at_us } : {}) };
    if (text && byVisitor && this.sound && !this.#inSight(entry)) chime('message');
    entry.touch();
    this.changed();
  }

  itemChanged(item) {
    const entry = this.entries.get(item.conversation);
    if (item.state === 'sent' && entry?.state) {
      entry.state = { ...entry.state, unanswered_since_us: 0, last_text: item.text, last_at_us: item.at * 1000 };
      entry.touch();
    }
  }

  #onQueue(update) {
    if (update.conversation) return;
    if (update.waiting !== this.queue.waiting) this.refreshSoon();
    this.queue = { waiting: update.waiting, longestMs: update.longest_wait_ms, agentsOnline: update.agents_online, at: Date.now() };
    this.changed();
  }

  #onPresence(presence) {
    if (presence.agent === this.id) this.me = { status: presence.status, open: presence.open, capacity: presence.capacity };
    this.agents.set(presence.agent, { ...this.agents.get(presence.agent), id: presence.agent, name: presence.name, status: presence.status, open: presence.open, capacity: presence.capacity });
    this.changed();
  }

}

/** Who has waited longest for an answer first; then the newest. */
function byUrgency(a, b) {
  const [x, y] = [a.unanswered_since_us || Infinity, b.unanswered_since_us || Infinity];
  if (x !== y) return x - y;
  return (b.last_at_us || b.opened_at_us) - (a.last_at_us || a.opened_at_us);
}
