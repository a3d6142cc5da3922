// One set of icons: 24-unit grid, stroke 1.5, drawn inline. An icon beside text is decoration and hidden from readers.
import { html } from './view.js';

const PATHS = {
  chat: 'M4 12a8 7 0 1 1 3.6 5.85L4 19l1.1-3.2A6.6 6.6 0 0 1 4 12Z',
  close: 'M6 6l12 12M18 6 6 18',
  down: 'M6 9l6 6 6-6',
  back: 'M15 5l-7 7 7 7',
  forward: 'M9 5l7 7-7 7',
  send: 'M12 19V5M5.5 11.5 12 5l6.5 6.5',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  alert: 'M12 8v5M12 16.5v.01M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17Z',
  clock: 'M12 7.5V12l3 2M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17Z',
  search: 'M15.5 15.5 20 20M10.5 4a6.5 6.5 0 1 1 0 13 6.5 6.5 0 0 1 0-13Z',
  transfer: 'M4 8h14M14.5 4.5 18 8l-3.5 3.5M20 16H6M9.5 12.5 6 16l3.5 3.5',
  done: 'M8 12.2l2.8 2.8L16 9.5M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17Z',
  person: 'M12 4a4 4 0 1 1 0 8 4 4 0 0 1 0-8ZM4.5 20a7.5 6 0 0 1 15 0',
  people: 'M9 4.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7ZM2.5 19.5a6.5 5.5 0 0 1 13 0M16 5a3.2 3.2 0 0 1 0 6.2M18 14.6a5.6 5.6 0 0 1 3.5 4.9',
  bell: 'M6 10a6 6 0 0 1 12 0c0 5 2 6 2 6H4s2-1 2-6ZM10 19.5a2.2 2.2 0 0 0 4 0',
  mute: 'M6 10a6 6 0 0 1 9.4-4.9M18 10c0 5 2 6 2 6H8M10 19.5a2.2 2.2 0 0 0 4 0M4 4l16 16',
  bolt: 'M13 3 5 13.5h6L10 21l9-11h-6.5L13 3Z',
  leave: 'M14 5H6v14h8M17 8.5l3.5 3.5-3.5 3.5M20 12h-9',
  command: 'M9 9h6v6H9zM9 9V6.5A2.5 2.5 0 1 0 6.5 9H9ZM15 9h2.5A2.5 2.5 0 1 0 15 6.5V9ZM15 15v2.5a2.5 2.5 0 1 0 2.5-2.5H15ZM9 15H6.5A2.5 2.5 0 1 0 9 17.5V15Z',
  inbox: 'M4 13.5 6.5 5h11L20 13.5V19H4v-5.5ZM4 13.5h4.5l1.5 2.5h4l1.5-2.5H20',
  copy: 'M9 9h10v11H9zM15 9V5H5v11h4',
  download: 'M12 4v11M7 10.5l5 5 5-5M5 20h14',
  plus: 'M12 5v14M5 12h14',
  moon: 'M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10Z',
  link: 'M10 14a4 4 0 0 0 5.7 0l3-3A4 4 0 0 0 13 5.3l-1 1M14 10a4 4 0 0 0-5.7 0l-3 3A4 4 0 0 0 11 18.7l1-1',
  info: 'M12 11v5.5M12 7.8v.01M12 3.5a8.5 8.5 0 1 1 0 17 8.5 8.5 0 0 1 0-17Z',
  chart: 'M4 19.5h16M7 16v-4M12 16V6M17 16v-7',
  more: 'M5.5 12v.01M12 12v.01M18.5 12v.01',
};

/** `<Icon name="send" />`; `small` is 16 px. */
export const Icon = ({ name, small }) => html`
  <svg class=${small ? 'icon is-small' : 'icon'} viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;

const TICKS = {
  waiting: html`<circle cx="7" cy="6" r="4.4" /><path d="M7 3.6V6l1.6 1" />`,
  sent: html`<path d="M4 6.4 6.6 9 12 3.4" />`,
  delivered: html`<path d="M1.5 6.4 4.1 9 9.5 3.4" /><path d="M6.3 9 11.9 3.4" />`,
};
TICKS.read = TICKS.delivered;

/** The state of one own message: clock, one tick, two ticks, two accent ticks. `label` is what a screen reader says. */
export const Tick = ({ state, label }) => html`
  <svg class=${`tick is-${state}`} viewBox="0 0 14 12" role="img" aria-label=${label}>${TICKS[state]}</svg>`;
