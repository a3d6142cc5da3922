// The states of every page, as data: what the server would have said. Times are fixed, so pictures can be compared.
const NOW_MS = Date.now();
const us = (minutesAgo, seconds = 0) => (NOW_MS - minutesAgo * 60_000 + seconds * 1000) * 1000;
const id = (n) => String(n).padStart(32, '0');
const VISITOR = 'a'.repeat(32);
const AGENT = 'b'.repeat(32);

const COPY = {
  zh: {
    shop: '潮汐茶铺', greeting: '您好，想找什么茶，或者想问订单，都可以在这里说。', agent: '小李', ask: '你好，我昨天下的单还没有发货，能帮我看看吗？',
    lines: [['v', '你好，我昨天下的单还没有发货，能帮我看看吗？'], ['v', '订单号 20261120-8841'], ['a', '您好，我看一下，稍等。'], ['a', '查到了，今天下午 4 点前会从杭州仓发出，顺丰，预计后天到。'], ['v', '好的，可以换成自提吗？'], ['a', '可以的，我帮您改成武林门店自提，发货后短信通知您。'], ['v', '谢谢']],
    long: '我们这款明前龙井是今年三月二十八日采摘的一芽一叶，产地在西湖区梅家坞，手工炒制，水分控制在百分之六点五以内。收到以后建议放在冰箱冷藏室密封保存，开封后一个月内喝完口感最好。冲泡时水温八十到八十五度，先放三分之一的水润茶，三十秒后再加满。如果您平时喝得比较淡，一百五十毫升的杯子放三克就够了。',
    page: '明前龙井 50g · 潮汐茶铺', names: ['王女士', '访客 4f21', '陈先生', '赵小姐', '访客 91ab'],
    last: ['谢谢', '这款还有货吗？', '发票怎么开', '请问什么时候发货，我明天要出差了，希望能赶在那之前收到', '在吗'],
  },
  en: {
    shop: 'Tidewater Tea', greeting: 'Hi. Looking for a tea, or asking about an order? Write to us here.', agent: 'Mia', ask: 'Hello, my order from yesterday has not shipped yet. Could you check?',
    lines: [['v', 'Hello, my order from yesterday has not shipped yet. Could you check?'], ['v', 'Order 20261120-8841'], ['a', 'Hi, let me look.'], ['a', 'Found it. It leaves our Hangzhou warehouse today before 4 pm and arrives the day after tomorrow.'], ['v', 'Good. Can I pick it up at the store instead?'], ['a', 'Sure, I have changed it to pickup at Wulin Gate. You get a text when it is there.'], ['v', 'Thank you']],
    long: `See https://tea.example/track?order=20261120-8841&signature=${'a81f0c'.repeat(24)} and ${'Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft'.repeat(2)}`,
    page: 'First-pick Longjing 50 g · Tidewater Tea', names: ['Ms Wang', 'Visitor 4f21', 'Daniel Okafor', 'Zoë Müller', 'Visitor 91ab'],
    last: ['Thank you', 'Is this one still in stock?', 'How do I get an invoice', 'When does it ship? I am travelling tomorrow and would love to have it before then', 'Anyone there?'],
  },
};

const shopOf = (copy, online = 1, eta = 110_000) => ({ token: 'fixture', visitor_id: VISITOR, expires_at: 0, ws_url: 'ws://tidegate.test/ws', widget: { name: copy.shop, greeting: copy.greeting }, agents_online: online, answer_eta_ms: eta });

const AUTHORS = { v: { sender_role: 'visitor', sender: VISITOR }, a: { sender_role: 'agent', sender: AGENT }, b: { sender_role: 'bot', sender: '626f74'.padStart(32, '0') } };

function messagesOf(copy, conversation, lines, startMinutesAgo = 12) {
  return lines.map(([side, text], i) => side === 's'
    ? { conversation, seq: i + 1, at_us: us(startMinutesAgo, i * 25), sender_role: 'system', content: 'system', text: '', system: text, sender_name: copy.agent, close_reason: text === 'closed' ? 'by_agent' : 'none' }
    : { conversation, seq: i + 1, at_us: us(startMinutesAgo, i * 25), ...AUTHORS[side], sender_name: side === 'a' ? copy.agent : '', session: '00000000000000bb', n: i, text });
}

const history = (messages) => (url) => {
  const before = Number(url.searchParams.get('before')) || Infinity;
  const after = Number(url.searchParams.get('after')) || 0;
  const limit = Number(url.searchParams.get('limit')) || 50;
  const fit = messages.filter((message) => message.seq < before && message.seq > after);
  return { conversation: messages[0]?.conversation, messages: url.searchParams.has('after') ? fit.slice(0, limit) : fit.slice(-limit) };
};

function chat(copy, lines, state = {}, more = {}) {
  const messages = messagesOf(copy, id(1), lines);
  const conversation = { conversation: id(1), status: 'chatting', seq: messages.length, agent: AGENT, agent_name: copy.agent, opened_at_us: us(12), visitor_online: true, agent_delivered: messages.length, agent_read: messages.length, visitor_delivered: messages.length, visitor_read: messages.length, ...state };
  return { sdk: { conversations: [conversation], ...more.sdk }, api: { '/api/visitor/token': shopOf(copy, more.online ?? 1), '/api/visitor/messages': history(messages), ...more.api } };
}

/** name → scenario of the visitor's chat in one language. */
export function visitorScenarios(language) {
  const copy = COPY[language];
  const base = { '/api/visitor/token': shopOf(copy) };
  const opening = [['s', 'queued'], ['s', 'agent_joined']];
  const all = [['s', 'queued'], ...copy.lines.slice(0, 2), ['s', 'agent_joined'], ...copy.lines.slice(2)];
  const many = Array.from({ length: 1000 }, (_, i) => copy.lines[i % copy.lines.length]);
  return {
    empty: { sdk: {}, api: base },
    one: chat(copy, [['s', 'queued'], ['v', copy.ask]], { agent_delivered: 0, agent_read: 0, status: 'waiting', agent: '', agent_name: '', position: 1, eta_ms: 50_000 }),
    many: chat(copy, all, { agent_read: all.length - 1, agent_delivered: all.length }, { sdk: { events: [['typing', { conversation: id(1), side: 'agent', name: copy.agent, active: true }]] } }),
    thousand: chat(copy, many),
    waiting: chat(copy, [['s', 'queued'], ['v', copy.ask]], { status: 'waiting', agent: '', agent_name: '', position: 4, eta_ms: 115_000, agent_delivered: 0, agent_read: 0 }, { sdk: { events: [] } }),
    nobody: { sdk: { welcome: { agents_online: 0 } }, api: { '/api/visitor/token': shopOf(copy, 0, 0) } },
    'nobody-waiting': chat(copy, [['s', 'queued'], ['v', copy.ask]], { status: 'waiting', agent: '', agent_name: '', position: 1, agent_delivered: 0, agent_read: 0 }, { online: 0, sdk: { welcome: { agents_online: 0 } } }),
    reconnecting: chat(copy, all, {}, { sdk: { events: [['state', { state: 'reconnecting', inMs: 8000, code: 1006 }]], outbox: [{ text: copy.last[3], state: 'waiting', at: NOW_MS }] } }),
    failed: chat(copy, all, {}, { sdk: { outbox: [{ text: copy.last[1], state: 'failed', at: NOW_MS, reason: 'unresolved' }, { text: copy.last[2], state: 'waiting', at: NOW_MS }] } }),
    unreachable: { sdk: {}, api: { '/api/visitor/token': 'abort' } },
    admission: { sdk: { state: 'waiting', events: [['wait', { place: 18402, rate_per_s: 100, next_ms: 9000, ticket: '', eta_ms: 184_000 }]] }, api: base },
    'admission-soon': { sdk: { state: 'waiting', outbox: [{ text: copy.ask, state: 'waiting', at: NOW_MS }], events: [['wait', { place: 400, rate_per_s: 20, next_ms: 9000, ticket: '', eta_ms: 20_000 }], ['wait', { place: 1, rate_per_s: 20, next_ms: 9000, ticket: '', eta_ms: 50 }]] }, api: base },
    'admission-unknown': { sdk: { state: 'waiting', events: [['wait', { place: 7, rate_per_s: 0, next_ms: 1000, ticket: '', eta_ms: 0 }]] }, api: base },
    superseded: chat(copy, all, {}, { sdk: { state: 'closed', code: 4501 } }),
    long: chat(copy, [...opening, ['v', copy.long], ['a', copy.long], ['v', COPY[language === 'zh' ? 'en' : 'zh'].long]]),
    closed: chat(copy, [...all, ['s', 'closed']], { status: 'closed', close_reason: 'by_agent' }),
    bot: chat(copy, [['s', 'queued'], ['v', copy.ask], ['b', copy.greeting]], { status: 'waiting', agent: '', agent_name: '', position: 1, eta_ms: 50_000 }),
    reload: { ...chat(copy, all), reload: true },
  };
}

export { COPY, us, id, messagesOf, history, NOW_MS, AGENT, VISITOR };

// --- the agent console

function deskOf(language, { rows, waiting = 0, sdk = {}, canned = true, role = 'agent', lines, status = 'online', api = {} }) {
  const copy = COPY[language];
  const conversations = rows.map((row, i) => ({
    conversation: id(i + 1), status: 'chatting', seq: 7, visitor: `${'a'.repeat(28)}${copy.names[i % 5].slice(-4).padStart(4, '0').replace(/[^0-9a-f]/g, '7')}`, visitor_name: /\d/.test(copy.names[i % 5]) ? '' : copy.names[i % 5], visitor_online: i !== 2,
    agent: AGENT, agent_name: copy.agent, opened_at_us: us(14 + i), assigned_at_us: us(13 + i), last_text: copy.last[i % 5], last_at_us: us(i), agent_delivered: 7, agent_read: 7 - (i % 3), visitor_delivered: 7, visitor_read: 6,
    page: 'https://tea.example/longjing', mine: true, unanswered_since_us: i === 1 ? us(4) : i === 3 ? us(1, -20) : 0, ...row,
  }));
  const messages = new Map(conversations.map((state) => [state.conversation, messagesOf(copy, state.conversation, lines ?? [['s', 'queued'], ...copy.lines.slice(0, 2), ['s', 'agent_joined'], ...copy.lines.slice(2)]).slice(0, 40)]));
  const queue = Array.from({ length: waiting }, (_, i) => ({ conversation: id(100 + i), status: 'waiting', visitor: `${'c'.repeat(28)}4f2${i}`, visitor_online: true, opened_at_us: us(4 - i), position: i + 1, last_text: copy.last[(i + 3) % 5], last_at_us: us(3 - i), seq: 2 }));
  for (const state of conversations) state.seq = messages.get(state.conversation).length;
  return {
    session: { token: 'fixture', expires_at: Math.floor(NOW_MS / 1000) + 86_400, ws_url: 'ws://tidegate.test/ws', agent: { id: AGENT, user: 'demo', name: copy.agent, role, capacity: 8 } },
    sdk: { conversations, welcome: { principal: AGENT, role: 'agent', name: copy.agent, status, capacity: 8 }, ...sdk, events: [['queue', { conversation: '', waiting, longest_wait_ms: waiting ? 252_000 : 0, agents_online: 2 }], ...(sdk.events ?? [])] },
    api: {
      '/api/agent/conversations': (url) => ({ conversations: ({ waiting: queue, all: [...queue, ...conversations, ...(rows.length ? [{ ...conversations[0], conversation: id(90), status: 'closed', agent_name: copy.agent, last_at_us: us(2000), opened_at_us: us(2010), unanswered_since_us: 0 }] : [])] })[url.searchParams.get('filter')] ?? conversations }),
      '/api/agent/conversations/[0-9a-f]+/messages': (url) => history(messages.get(url.pathname.split('/')[4]) ?? messagesOf(copy, url.pathname.split('/')[4], [['s', 'queued'], ['v', copy.last[3]]]))(url),
      '/api/agent/conversations/[0-9a-f]+': (url) => ({
        conversation: [...conversations, ...queue].find((state) => state.conversation === url.pathname.split('/')[4]) ?? conversations[0],
        visitor: { id: VISITOR, name: '', locale: language === 'zh' ? 'zh-CN' : 'en', created_at_us: us(9000), page: 'https://tea.example/longjing', attributes: { [language === 'zh' ? '会员等级' : 'Tier']: language === 'zh' ? '金卡' : 'Gold', [language === 'zh' ? '累计订单' : 'Orders']: 12 } },
        earlier: [{ conversation: id(90), status: 'closed', opened_at_us: us(20_000), last_text: copy.last[2] }, { conversation: id(91), status: 'closed', opened_at_us: us(60_000), last_text: copy.last[1] }],
      }),
      '/api/agent/agents': { agents: [{ id: AGENT, name: copy.agent, status: 'online', open: rows.length, capacity: 8 }, { id: 'd'.repeat(32), name: language === 'zh' ? '小周' : 'Sam', status: 'online', open: 2, capacity: 6 }, { id: 'e'.repeat(32), name: language === 'zh' ? '老张' : 'Priya', status: 'online', open: 6, capacity: 6 }] },
      '/api/agent/canned-replies': { replies: canned ? (language === 'zh' ? [['你好', '您好，很高兴为您服务，请问有什么可以帮您？'], ['发货', '订单会在付款后 24 小时内发出，发货后会有短信通知。'], ['自提', '可以改为门店自提，请告诉我离您最近的门店。']] : [['hi', 'Hello, thanks for writing. How can I help?'], ['ship', 'Orders leave our warehouse within 24 hours of payment. You get a text when yours does.'], ['pickup', 'I can change it to store pickup. Which store is closest to you?']]).map(([shortcut, text], i) => ({ id: id(i + 1), shortcut, text, shared: false })) : [] },
      ...api,
    },
  };
}

/** name → { scenario, hash, act } of the console. */
export function agentScenarios(language) {
  const copy = COPY[language];
  const front = `#/${id(1)}`;
  const busy = { rows: [{}, {}, {}, {}, {}], waiting: 3 };
  return {
    'sign-in': { scenario: { sdk: {}, api: {} } },
    empty: { scenario: deskOf(language, { rows: [] }) },
    offline: { scenario: deskOf(language, { rows: [], status: 'offline' }) },
    one: { scenario: deskOf(language, { rows: [{}] }), hash: front },
    bot: { scenario: deskOf(language, { rows: [{}], lines: [['s', 'queued'], ['v', copy.ask], ['b', copy.greeting], ['s', 'agent_joined'], ['a', copy.lines[2][1]]] }), hash: front },
    list: { scenario: deskOf(language, busy) },
    many: { scenario: deskOf(language, { ...busy, sdk: { events: [['typing', { conversation: id(1), side: 'visitor', name: '', active: true }]] } }), hash: front },
    waiting: { scenario: deskOf(language, busy), hash: `#/${id(100)}`, act: (page) => page.locator('#tab-waiting').click({ timeout: 2000 }).catch(() => {}) },
    transfer: { scenario: deskOf(language, busy), hash: front, act: (page) => page.locator('.head-action').first().click() },
    canned: { scenario: deskOf(language, busy), hash: front, act: (page) => page.locator('.composer-field').fill('/') },
    palette: { scenario: deskOf(language, busy), hash: front, act: (page) => page.keyboard.press('Control+k') },
    customer: { scenario: deskOf(language, busy), hash: `${front}/customer` },
    reconnecting: { scenario: { ...deskOf(language, { ...busy, sdk: { events: [['state', { state: 'reconnecting', inMs: 9000, code: 1006 }]], outbox: [{ conversation: id(1), text: copy.last[3], state: 'waiting', at: NOW_MS }, { conversation: id(1), text: copy.last[0], state: 'waiting', at: NOW_MS }] } }), settleMs: 2500 }, hash: front },
    failed: { scenario: deskOf(language, { ...busy, sdk: { outbox: [{ conversation: id(1), text: copy.last[3], state: 'failed', at: NOW_MS, reason: 'conversation_closed' }] } }), hash: front },
    long: { scenario: deskOf(language, { ...busy, rows: [{ visitor_name: copy.long.slice(0, 60), last_text: copy.long }, {}, {}], lines: [['v', copy.long], ['a', copy.long], ['v', COPY[language === 'zh' ? 'en' : 'zh'].long]] }), hash: front },
  };
}

// --- the administration

/** name → { scenario, hash } of the administration. */
export function adminScenarios(language) {
  const desk = deskOf(language, { rows: [{}], role: 'supervisor' });
  const zh = language === 'zh';
  let asked = 0;
  const stats = (bad) => () => {
    asked += 1;
    const accepted = 184_203 + asked * 61 + Math.round(Math.sin(asked / 3) * 20);
    return {
      ready: true, at_us: (NOW_MS + asked * 2000) * 1000, agents_online: bad ? 0 : 3, waiting: bad ? 14 : 2, longest_wait_ms: bad ? 421_000 : 41_000, chatting: 17, visitors_connected: 4821 + Math.round(Math.sin(asked) * 30), agents_connected: 4, gateways: 2,
      agents: [['小李', 'Mia', 'online', 5, 8], ['小周', 'Sam', 'online', 6, 6], ['老张', 'Priya', 'away', 2, 6], ['Okafor', 'Okafor', bad ? 'offline' : 'online', 4, 10], ['周明', 'Lena', 'offline', 0, 8]].map(([a, b, status, open, capacity], i) => ({ id: id(i + 1), name: zh ? a : b, role: 'agent', status: bad && status === 'online' ? 'away' : status, open, capacity, disabled: false })),
      admission: { tickets: 184_000, frontier: 204_000, waiting: bad ? 61_240 : 0, per_1000_s: bad ? 1_870_000 : 10_000_000, admitted: 90_000 + asked * (bad ? 3_700 : 60), passed_over: 0, pace_percent: bad ? 50 : 100 },
      today: { opened: 412, assigned: 398, closed: 381, abandoned: 6 },
      ledger: {
        accepted, delivered: accepted - 12 - (bad ? 3 : 0), pending: 12, expired: 0, closed: !bad,
        to_agent: { accepted: 98_112, delivered: 98_103, pending: 9, expired: 0 },
        to_visitor: { accepted: accepted - 98_112, delivered: accepted - 98_112 - 3 - (bad ? 3 : 0), pending: 3, expired: 0 },
      },
      counters: {
        refused: bad ? { rate_limited: 1_204, busy: 37, empty_message: 12, message_too_long: 3, bad_token: 2 } : {},
        messages_accepted: accepted },
      times: { chat_lately: { count: 900, p50_us: 210 + (asked % 5) * 12, p99_us: 1_350 + (asked % 7) * 90 } },
    };
  };
  const api = {
    ...desk.api, '/api/admin/realtime-stats': stats(false),
    '/api/admin/agents': { agents: [['demo', '小李', 'Mia', 'supervisor', 5, 8], ['zhou', '小周', 'Sam', 'agent', 6, 6], ['priya', '老张', 'Priya', 'agent', 2, 6], ['okafor', 'Okafor', 'Okafor', 'agent', 4, 10]].map(([user, a, b, role, open, capacity], i) => ({ id: i ? id(i) : AGENT, user, name: zh ? a : b, role, status: ['online', 'online', 'away', 'offline'][i], open, capacity, disabled: i === 3, created_at_us: us(9000) })) },
    '/api/admin/widgets': { widgets: [{ id: 1, key: 'default', name: COPY[language].shop, greeting: COPY[language].greeting, accent: '#2f6b4f', allowed_origins: ['https://tea.example'] }] },
  };
  const series = async (page) => { // two seconds pass in a few milliseconds
    await page.evaluate(() => { const later = window.setTimeout; window.setTimeout = (run, ms) => later(run, ms === 2000 ? 4 : ms); });
    await page.waitForTimeout(2600);
  };
  const scenario = { ...desk, api };
  return {
    overview: { scenario, act: series },
    attention: { scenario: { ...scenario, api: { ...api, '/api/admin/realtime-stats': stats(true) } } },
    agents: { scenario, hash: '#/agents' },
    widgets: { scenario, hash: '#/widgets' },
    export: { scenario, hash: '#/exports' },
  };
}
