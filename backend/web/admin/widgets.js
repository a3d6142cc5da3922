// What the shops' pages show: name, greeting, colour, who may embed it; and the line to paste.
import { html, Component } from '../ui/view.js';
import { Icon } from '../ui/icons.js';
import { t } from '../ui/text.js';

class WidgetForm extends Component {
  state = { said: '', copied: false };

  #save = async (event) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const allowed_origins = String(form.get('origins')).split(/\s+/).filter(Boolean);
    try {
      await this.props.account.ask('/api/admin/widgets', { method: 'PATCH', body: { id: this.props.widget.id, name: form.get('name'), greeting: form.get('greeting'), accent: form.get('accent'), allowed_origins } });
      this.setState({ said: t('saved'), bad: false });
    } catch (error) {
      this.setState({ said: error.status ? error.message : t('serverUnreachable'), bad: true });
    }
  };

  render({ widget }, { said, bad, copied }) {
    const code = `<script async src="${location.origin}/widget.js" data-widget="${widget.key}"></script>`;
    return html`
      <form class="panel widget-form" onSubmit=${this.#save}>
        <h2>${widget.key}</h2>
        <label class="field"><span>${t('shopName')}</span><input class="input" name="name" defaultValue=${widget.name} /></label>
        <label class="field"><span>${t('greetingLabel')}</span><textarea class="input" name="greeting" rows="2" defaultValue=${widget.greeting}></textarea></label>
        <label class="field"><span>${t('accentLabel')}</span><input class="input" name="accent" defaultValue=${widget.accent} placeholder="#14688c" pattern="#[0-9a-fA-F]{6}|" /></label>
        <label class="field"><span>${t('originsLabel')}</span><textarea class="input" name="origins" rows="3" placeholder="https://shop.example" defaultValue=${(widget.allowed_origins ?? []).join('\n')}></textarea></label>
        <div class="embed"><span>${t('embedCode')}</span><code>${code}</code><button class="button" type="button" onClick=${async () => { await navigator.clipboard?.writeText(code).catch(() => {}); this.setState({ copied: true }); }}><${Icon} name="copy" small />${t(copied ? 'copied' : 'copy')}</button></div>
        <div class="form-actions"><span class=${bad ? 'is-danger' : 'is-said'} role="status">${said}</span><button class="button is-primary" type="submit">${t('save')}</button></div>
      </form>`;
  }
}

export class Widgets extends Component {
  state = { widgets: null, error: '' };

  async componentDidMount() {
    try { this.setState({ widgets: (await this.props.account.ask('/api/admin/widgets')).widgets }); } catch (error) { this.setState({ error: error.status ? error.message : t('serverUnreachable') }); }
  }

  render({ account }, { widgets, error }) {
    return html`<header class="admin-head"><h1>${t('widgets')}</h1></header>
      ${error ? html`<p class="note is-danger" role="alert">${error}</p>` : null}
      ${widgets?.map((widget) => html`<${WidgetForm} key=${widget.id} widget=${widget} account=${account} />`)}`;
  }
}
