// At the door: more people came than are let in at once. Between two words of the server the place moves on at the rate
// that it said, so the line is seen to move; it never moves back.
import { html, Component } from '../ui/view.js';
import { t } from '../ui/text.js';

const SECOND_MS = 1_000;
const MINUTE_S = 60;
/** Below this no number is honest. */
const SOON_S = 10;

/** Where somebody stands `elapsed_ms` after the server said `wait`: people ahead, seconds (0 = unknown). */
export function standing(wait, elapsed_ms) {
  const gone = Math.floor(((wait.rate_per_s || 0) * elapsed_ms) / SECOND_MS);
  const ahead = Math.max(0, wait.place - 1 - gone);
  const seconds = wait.eta_ms > 0 ? Math.max(1, Math.ceil((wait.eta_ms - elapsed_ms) / SECOND_MS)) : 0;
  return { ahead, seconds };
}

/** A time as one would say it: nobody knows it to the second. */
export function inWords(seconds) {
  if (seconds <= 0) return t('doorTimeUnknown');
  if (seconds < SOON_S) return t('doorSoon');
  if (seconds < 2 * MINUTE_S) return t('doorSeconds', Math.ceil(seconds / 5) * 5);
  return t('aheadWait', Math.ceil(seconds / MINUTE_S));
}

export class Door extends Component {
  componentDidMount() { this.timer = setInterval(() => this.setState({}), SECOND_MS); }
  componentWillUnmount() { clearInterval(this.timer); }

  render({ wait, written }) {
    const { ahead, seconds } = standing(wait, Date.now() - wait.heardAt);
    // The server may say a larger place than the one shown (the rate fell): the line stands then, it does not go back.
    this.shown = Math.min(this.shown ?? Infinity, ahead);
    this.first = Math.max(this.first ?? 0, wait.first, this.shown + 1);
    const progress = Math.max(0.04, 1 - (this.shown + 1) / (this.first + 1));
    return html`
      <section class="waiting-card is-queue is-door" aria-label=${t('doorTitle')}>
        <p class="door-title" role="status">${t('doorTitle')}</p>
        <div class="waiting-line numeric"><strong>${t('doorAhead', this.shown)}</strong><span>${inWords(seconds)}</span></div>
        <div class="waiting-bar" role="progressbar" aria-label=${t('placeInLine')} aria-valuemin="0" aria-valuemax="100" aria-valuenow=${Math.round(progress * 100)}>
          <i ref=${(bar) => bar?.style.setProperty('--progress', progress)}></i></div>
        <p>${t(written ? 'doorHintWritten' : 'doorHint')}</p>
      </section>`;
  }
}
