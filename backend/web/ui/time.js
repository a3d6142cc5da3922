// Times as people read them: minutes of the clock, days by name, durations in one unit.
import { t, language } from './text.js';

const formats = new Map();
function format(options) {
  const key = language() + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(language(), options));
  return formats.get(key);
}

export const nowUs = () => Date.now() * 1000;
const date = (us) => new Date(us / 1000);

/** 14:03 */
export const clockTime = (us) => format({ hour: '2-digit', minute: '2-digit', hourCycle: 'h23' }).format(date(us));

/** The exact stamp, for titles: 2026-11-21 14:03:22 +08:00 in the reader's own zone. */
export const exactTime = (us) => (us ? format({ dateStyle: 'medium', timeStyle: 'long' }).format(date(us)) : '');

/** A number that is the same for all moments of one local day. */
export function dayNumber(us) {
  const day = date(us);
  return day.getFullYear() * 10000 + day.getMonth() * 100 + day.getDate();
}

/** Today, Yesterday, Friday 20 November. */
export function dayName(us, now = nowUs()) {
  if (dayNumber(us) === dayNumber(now)) return t('today');
  if (dayNumber(us) === dayNumber(now - 86_400e6)) return t('yesterday');
  const sameYear = date(us).getFullYear() === date(now).getFullYear();
  return format({ weekday: 'long', day: 'numeric', month: 'long', ...(sameYear ? {} : { year: 'numeric' }) }).format(date(us));
}

/** For lists: the time today, otherwise the date. */
export function shortTime(us, now = nowUs()) {
  if (!us) return '';
  return dayNumber(us) === dayNumber(now) ? clockTime(us) : format({ day: 'numeric', month: 'short' }).format(date(us));
}

/** A length of time in its largest whole unit: 40 s, 3 min, 2 h, 5 d. */
export function duration(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return t('seconds', seconds);
  if (seconds < 3600) return t('minutes', Math.floor(seconds / 60));
  if (seconds < 172_800) return t('hours', Math.floor(seconds / 3600));
  return t('days', Math.floor(seconds / 86_400));
}

/** Running time as a clock, for what must be watched: 0:40, 12:05, 1:02:09. */
export function stopwatch(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const pad = (n) => String(n).padStart(2, '0');
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
}
