// Where one writes: grows with the text, sends on Enter (Shift+Enter breaks; an input method's Enter only chooses),
// never blocks while offline, and hands every keystroke to the draft.
import { html, Component, cls } from './view.js';
import { Icon } from './icons.js';
import { t } from './text.js';

const TEXT_BYTES_MAX = 16_384; // protocol/src/limits.rs: MESSAGE_TEXT_BYTES_MAX
const HEIGHT_PX_MAX = 132;
const TYPING_EVERY_MS = 3_000;
const TYPING_QUIET_MS = 5_000;

const utf8Bytes = (text) => (text.length * 3 <= TEXT_BYTES_MAX ? text.length : new TextEncoder().encode(text).length);

/** Props: draft, placeholder, onDraft(text), onSend(text), onTyping(active), onKey(event, composer) → handled, tools, disabled. */
export class Composer extends Component {
  #field = null;
  #typingSince = 0;
  #quiet = 0;

  componentDidMount() { this.#fit(); }

  componentDidUpdate(before) {
    if (before.id !== this.props.id) this.#stopTyping(before);
    this.#fit();
  }

  componentWillUnmount() { this.#stopTyping(this.props); }

  focus() { this.#field?.focus({ preventScroll: true }); }

  #fit() {
    const field = this.#field;
    if (!field) return;
    field.style.height = 'auto';
    field.style.height = `${Math.min(field.scrollHeight, HEIGHT_PX_MAX)}px`;
    field.style.overflowY = field.scrollHeight > HEIGHT_PX_MAX ? 'auto' : 'hidden';
  }

  #onInput = (event) => {
    const text = event.target.value;
    this.props.onDraft(text);
    if (!text.trim()) return this.#stopTyping(this.props);
    const now = Date.now();
    if (now - this.#typingSince > TYPING_EVERY_MS) {
      this.#typingSince = now;
      this.props.onTyping?.(true);
    }
    clearTimeout(this.#quiet);
    this.#quiet = setTimeout(() => this.#stopTyping(this.props), TYPING_QUIET_MS);
  };

  #stopTyping(props) {
    clearTimeout(this.#quiet);
    if (!this.#typingSince) return;
    this.#typingSince = 0;
    props.onTyping?.(false);
  }

  #send = () => {
    const text = this.props.draft.trim();
    if (!text || utf8Bytes(text) > TEXT_BYTES_MAX) return;
    this.#stopTyping(this.props);
    this.props.onSend(text);
  };

  #onKeyDown = (event) => {
    if (event.isComposing || event.keyCode === 229) return; // the input method is choosing
    if (this.props.onKey?.(event, this)) { event.preventDefault(); return; }
    if (event.key === 'Enter' && !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey) {
      event.preventDefault();
      this.#send();
    }
  };

  render({ draft, placeholder, disabled, tools, above, describedBy, expanded, controls, active }) {
    const long = utf8Bytes(draft) > TEXT_BYTES_MAX;
    const suggests = controls ? { 'aria-autocomplete': 'list', 'aria-haspopup': 'listbox', 'aria-controls': expanded ? controls : undefined, 'aria-activedescendant': active } : {};
    return html`
      <div class="composer-frame">
        ${above}
        <form class=${cls('composer', disabled && 'is-disabled')} onSubmit=${(event) => { event.preventDefault(); this.#send(); }}>
          ${tools}
          <textarea class="composer-field" rows="1" enterkeyhint="send" autocomplete="off" aria-label=${placeholder} aria-describedby=${describedBy} placeholder=${placeholder}
            value=${draft} disabled=${disabled} ref=${(field) => { this.#field = field; }} onInput=${this.#onInput} onKeyDown=${this.#onKeyDown} ...${suggests}></textarea>
          <button class="composer-send" type="submit" aria-label=${t('send')} title=${t('send')} disabled=${disabled || long || !draft.trim()}><${Icon} name="send" /></button>
        </form>
        ${long ? html`<p class="composer-note is-danger" role="alert">${t('failedReason', 'message_too_long')}</p>` : null}
      </div>`;
  }
}
