// The launcher: <script async src="https://chat.example/widget.js" data-widget="default"></script> on a shop's page.
// Attributes: data-widget, data-accent (#rrggbb), data-position (right | left), data-greeting, data-lang (zh | en | auto),
// data-name, data-logo (address of an image), data-questions ("a|b|c") with data-questions-en, data-bottom (px). API: window.Tidegate.open() / .close().
// It draws a button and nothing else. The iframe, and with it any connection, is made when the visitor opens the
// chat. Then it keeps the chat's strings in this page's storage, because the iframe's may be blocked.
(() => {
  const script = document.currentScript;
  if (!script || window.Tidegate) return;
  const ORIGIN = new URL(script.src).origin;
  const data = script.dataset;
  const widget = data.widget || 'default';
  const PREFIX = `tidegate.${widget}.`;
  const VALUE_CHARS_MAX = 1 << 19;
  const zh = (data.lang && data.lang !== 'auto' ? data.lang : navigator.language || '').toLowerCase().startsWith('zh');
  const TEXT = zh ? ['打开在线客服', '收起聊天', '在线客服', '条未读'] : ['Open chat', 'Minimize chat', 'Chat', 'unread'];
  const SVG = 'http://www.w3.org/2000/svg';

  // --- storage of this page, or memory where even that is blocked
  const areaOf = (name) => {
    try { return name === 'tab' ? window.sessionStorage : window.localStorage; } catch { return null; }
  };
  const snapshot = (name) => {
    const area = areaOf(name);
    const all = {};
    try {
      for (let i = 0; i < area.length; i += 1) {
        const key = area.key(i);
        if (key.startsWith(PREFIX)) all[key.slice(PREFIX.length)] = area.getItem(key);
      }
    } catch { /* blocked: the chat lives as long as the page */ }
    return all;
  };
  const write = (name, key, value) => {
    if (typeof key !== 'string' || (value !== null && (typeof value !== 'string' || value.length > VALUE_CHARS_MAX))) return;
    try {
      if (value === null) areaOf(name).removeItem(PREFIX + key);
      else areaOf(name).setItem(PREFIX + key, value);
    } catch { /* blocked or full */ }
  };

  // A duplicated tab comes with a copy of the first one's sessionStorage: the copy must not send under its name. Held
  // here, on the shop's page, because the iframe may not be allowed to lock. false: the browser has no locks.
  const hold = (id) => new Promise((resolve) => {
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 1500);
    navigator.locks.request(PREFIX + id, { signal: abort.signal }, () => {
      resolve(true);
      return new Promise(() => {});
    }).catch(() => resolve(false));
  });
  const claimTab = async () => {
    const { tab, ...kept } = snapshot('tab');
    if (!navigator.locks) return false;
    if (tab && await hold(tab)) return true;
    for (const key in kept) if (key.startsWith('sdk')) write('tab', key, null);
    const fresh = Math.random().toString(36).slice(2);
    write('tab', 'tab', fresh);
    return hold(fresh);
  };

  // --- colours: white or ink on the accent, whichever reads better
  const accent = /^#[0-9a-f]{6}$/i.test(data.accent || '') ? data.accent : '#14688c';
  const light = [1, 3, 5].map((at) => (parseInt(accent.slice(at, at + 2), 16) / 255) ** 2.2);
  const ink = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2] > 0.3 ? '#12161c' : '#fff';
  const side = data.position === 'left' ? 'left' : 'right';
  const bottom = Number(data.bottom) || 20;

  // --- what is drawn: a shadow root, so neither page's styles reach the other
  const css = `
    :host { all: initial; }
    button { all: unset; box-sizing: border-box; position: fixed; z-index: 2147483000; ${side}: max(20px, env(safe-area-inset-${side})); bottom: calc(${bottom}px + env(safe-area-inset-bottom));
      width: 56px; height: 56px; border-radius: 50%; display: grid; place-items: center; cursor: pointer; background: ${accent}; color: ${ink};
      box-shadow: 0 6px 20px rgb(15 25 40 / 22%), 0 1px 3px rgb(15 25 40 / 16%); transition: transform 140ms ease-out; -webkit-tap-highlight-color: transparent; }
    button:hover { transform: scale(1.04); }
    button:focus-visible { outline: 3px solid ${accent}; outline-offset: 3px; }
    svg { grid-area: 1 / 1; width: 26px; height: 26px; fill: none; stroke: currentColor; stroke-width: 1.6; stroke-linecap: round; stroke-linejoin: round; transition: opacity 140ms, transform 140ms; }
    .shut, .is-open .chat { opacity: 0; transform: scale(.7); }
    .is-open .shut { opacity: 1; transform: none; }
    b { position: absolute; top: -3px; ${side === 'left' ? 'left' : 'right'}: -3px; min-width: 22px; height: 22px; padding: 0 6px; box-sizing: border-box; border-radius: 11px; background: #b3261e; color: #fff;
      font: 600 12px/22px system-ui, sans-serif; text-align: center; box-shadow: 0 0 0 2px #fff; }
    b:empty { display: none; }
    iframe { position: fixed; z-index: 2147483000; ${side}: max(20px, env(safe-area-inset-${side})); bottom: ${bottom + 72}px; width: 400px; height: 680px; max-height: calc(100vh - ${bottom + 92}px); max-width: calc(100vw - 40px);
      border: 0; border-radius: 12px; box-shadow: 0 12px 44px rgb(15 25 40 / 20%), 0 1px 4px rgb(15 25 40 / 12%); background: transparent; color-scheme: normal;
      opacity: 0; transform: translateY(8px); visibility: hidden; transition: opacity 160ms ease-out, transform 160ms ease-out, visibility 0s 160ms; }
    iframe.is-open { opacity: 1; transform: none; visibility: visible; transition-delay: 0s; }
    @media (max-width: 480px), (max-height: 480px) {
      iframe { inset: 0; width: 100%; height: 100%; max-width: none; max-height: none; border-radius: 0; }
      button.is-open { display: none; }
    }
    @media (prefers-color-scheme: dark) { iframe { outline: 1px solid rgb(255 255 255 / 9%); } }
    @media (prefers-reduced-motion: reduce) { * { transition: none !important; } }`;

  const host = document.createElement('div');
  const root = host.attachShadow({ mode: 'open' });
  if (root.adoptedStyleSheets) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(css);
    root.adoptedStyleSheets = [sheet];
  } else {
    root.appendChild(document.createElement('style')).textContent = css;
  }
  const button = document.createElement('button');
  button.type = 'button';
  for (const [name, d] of [['chat', 'M4 12a8 7 0 1 1 3.6 5.85L4 19l1.1-3.2A6.6 6.6 0 0 1 4 12Z'], ['shut', 'M6 9l6 6 6-6']]) {
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('viewBox', '0 0 24 24');
    svg.setAttribute('class', name);
    svg.setAttribute('aria-hidden', 'true');
    svg.appendChild(document.createElementNS(SVG, 'path')).setAttribute('d', d);
    button.append(svg);
  }
  const badge = button.appendChild(document.createElement('b'));
  root.append(button);

  // --- the iframe
  let frame = null;
  let open = false;
  let unread = 0;
  let spoken = false;
  const narrow = matchMedia('(max-width: 480px), (max-height: 480px)');
  const tell = (message) => spoken && frame.contentWindow && frame.contentWindow.postMessage({ tidegate: 1, ...message }, ORIGIN);

  const draw = () => {
    button.className = open ? 'is-open' : '';
    if (frame) frame.className = open ? 'is-open' : '';
    badge.textContent = unread && !open ? (unread > 99 ? '99+' : unread) : '';
    button.setAttribute('aria-label', open ? TEXT[1] : unread ? `${TEXT[0]} (${unread} ${TEXT[3]})` : TEXT[0]);
    button.setAttribute('aria-expanded', String(open));
    document.documentElement.style.overflow = open && narrow.matches ? 'hidden' : '';
    fit();
  };
  // A phone's keyboard shrinks the visual viewport of this page, not that of the iframe.
  const fit = () => {
    const view = window.visualViewport;
    if (!frame || !view) return;
    const full = open && narrow.matches;
    frame.style.height = full ? `${view.height}px` : '';
    frame.style.top = full ? `${view.offsetTop}px` : '';
  };
  if (window.visualViewport) {
    visualViewport.addEventListener('resize', fit);
    visualViewport.addEventListener('scroll', fit);
  }
  narrow.addEventListener && narrow.addEventListener('change', draw);

  const load = () => {
    if (frame) return;
    frame = document.createElement('iframe');
    frame.title = data.name || TEXT[2];
    frame.src = `${ORIGIN}/widget/?widget=${encodeURIComponent(widget)}#origin=${encodeURIComponent(location.origin)}`;
    root.append(frame);
  };
  const setOpen = (want) => {
    open = want;
    if (open) load();
    write('tab', 'open', open ? '1' : '0');
    // One frame later, so that opening is seen to open.
    requestAnimationFrame(() => {
      draw();
      tell({ type: 'shown', shown: open });
      if (open && spoken) frame.focus();
    });
  };

  window.addEventListener('message', (event) => {
    const message = event.data;
    if (!frame || event.source !== frame.contentWindow || event.origin !== ORIGIN || !message || message.tidegate !== 1) return;
    if (message.type === 'ready') {
      const { accent: colour, greeting, lang, name, logo } = data;
      const questions = (!zh && data.questionsEn) || data.questions;
      claimTab().then((locked) => {
        spoken = true;
        tell({ type: 'init', locked, local: snapshot('local'), tab: snapshot('tab'), config: { widget, accent: colour, greeting, lang, name, logo, questions }, page: location.href, shown: open });
      });
    } else if (message.type === 'set' || message.type === 'remove') {
      write(message.area, message.key, message.type === 'set' ? message.value : null);
    } else if (message.type === 'unread') {
      unread = message.count | 0;
      draw();
    } else if (message.type === 'minimize') {
      setOpen(false);
      button.focus();
    }
  });
  button.addEventListener('click', () => setOpen(!open));

  const show = () => {
    document.body.append(host);
    draw();
    // The visitor opened the chat earlier in this tab: it goes on, open or minimized as they left it.
    const before = snapshot('tab').open;
    if (before === '1') setOpen(true);
    else if (before === '0' && snapshot('tab').live) load();
  };
  if (document.body) show();
  else document.addEventListener('DOMContentLoaded', show);
  window.Tidegate = { open: () => setOpen(true), close: () => setOpen(false) };
})();
