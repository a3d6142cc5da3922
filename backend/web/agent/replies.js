// The editor of one's canned replies. Everybody's (shared) are shown; only supervisors change them, on the server's word.
import { html, Component } from '../ui/view.js';
import { Icon } from '../ui/icons.js';
import { t } from '../ui/text.js';

export class RepliesEditor extends Component {
  state = { rows: this.props.desk.replies.map((reply) => ({ ...reply })) };

  componentDidMount() { this.base.showModal(); }

  #change(i, part) { this.setState({ rows: this.state.rows.map((row, at) => (at === i ? { ...row, ...part } : row)) }); }

  #save = async (event) => {
    event.preventDefault();
    const replies = this.state.rows.map(({ id, shortcut, text, shared }) => ({ ...(id ? { id } : {}), shortcut: shortcut.trim().replace(/^\//, ''), text: text.trim(), shared: Boolean(shared) })).filter((row) => row.text);
    if (await this.props.desk.saveReplies(replies)) this.props.desk.ask('canned');
  };

  render({ desk }, { rows }) {
    const fixed = (row) => row.shared && desk.account.agent?.role !== 'supervisor';
    return html`
      <dialog class="editor" aria-label=${t('editCanned')} onClose=${() => desk.asking === 'canned' && desk.ask('canned')}>
        <form onSubmit=${this.#save}>
          <h2>${t('cannedReplies')}</h2>
          <div class="editor-rows">
            ${rows.map((row, i) => html`<div class="editor-row" key=${i}>
              <input class="input" aria-label=${t('shortcut')} placeholder=${t('shortcut')} maxlength="32" value=${row.shortcut} disabled=${fixed(row)} onInput=${(event) => this.#change(i, { shortcut: event.target.value })} />
              <textarea class="input" rows="2" aria-label=${t('replyText')} placeholder=${t('replyText')} value=${row.text} disabled=${fixed(row)} onInput=${(event) => this.#change(i, { text: event.target.value })}></textarea>
              <button class="icon-button" type="button" aria-label=${t('remove')} disabled=${fixed(row)} onClick=${() => this.setState({ rows: rows.filter((_, at) => at !== i) })}><${Icon} name="close" /></button></div>`)}
          </div>
          <button class="button is-quiet" type="button" onClick=${() => this.setState({ rows: [...rows, { shortcut: '', text: '', shared: false }] })}><${Icon} name="plus" small />${t('addCanned')}</button>
          <div class="editor-actions"><button class="button" type="button" onClick=${() => this.base.close()}>${t('cancel')}</button><button class="button is-primary" type="submit">${t('save')}</button></div>
        </form>
      </dialog>`;
  }
}
