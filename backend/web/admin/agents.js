// The people who answer: add one, change capacity, disable, hand out a new password (shown once).
import { html, Component } from '../ui/view.js';
import { Icon } from '../ui/icons.js';
import { t } from '../ui/text.js';
import { Table } from './table.js';

export class Agents extends Component {
  state = { agents: null, secret: null, adding: false, error: '' };

  componentDidMount() { this.#load(); }

  async #load() {
    try { this.setState({ agents: (await this.props.account.ask('/api/admin/agents')).agents, error: '' }); } catch (error) { this.setState({ error: error.status ? error.message : t('serverUnreachable') }); }
  }

  async #change(body, method = 'PATCH') {
    try {
      const answer = await this.props.account.ask('/api/admin/agents', { method, body });
      this.setState({ secret: answer.password ? { user: answer.agent.user, password: answer.password, copied: false } : this.state.secret, error: '', adding: method === 'POST' ? false : this.state.adding });
      await this.#load();
    } catch (error) {
      this.setState({ error: error.status ? error.message : t('serverUnreachable') });
    }
  }

  #add = (event) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    this.#change({ user: form.get('user'), name: form.get('name') || undefined, role: form.get('role'), capacity: Number(form.get('capacity')) }, 'POST');
  };

  #copy = async () => {
    await navigator.clipboard?.writeText(this.state.secret.password).catch(() => {});
    this.setState({ secret: { ...this.state.secret, copied: true } });
  };

  render({ account }, { agents, secret, adding, error }) {
    const me = account.agent?.id;
    return html`
      <header class="admin-head"><h1>${t('agents')}</h1></header>
      ${error ? html`<p class="note is-danger" role="alert">${error}</p>` : null}
      ${secret ? html`<div class="note is-secret" role="status"><div><b>${t('oneTimePassword', secret.user, secret.password)}</b><p>${t('shownOnce')}</p></div><button class="button" type="button" onClick=${this.#copy}><${Icon} name="copy" small />${t(secret.copied ? 'copied' : 'copy')}</button></div>` : null}
      ${adding ? html`<form class="panel inline-form" onSubmit=${this.#add}>
        <label class="field"><span>${t('user')}</span><input class="input" name="user" required maxlength="64" autocapitalize="none" autocomplete="off" /></label>
        <label class="field"><span>${t('name')}</span><input class="input" name="name" autocomplete="off" /></label>
        <label class="field"><span>${t('role')}</span><select class="input" name="role"><option value="agent">${t('roleAgent')}</option><option value="supervisor">${t('roleSupervisor')}</option></select></label>
        <label class="field"><span>${t('capacityName')}</span><input class="input" name="capacity" type="number" min="0" max="1000" value="8" /></label>
        <div class="form-actions"><button class="button is-quiet" type="button" onClick=${() => this.setState({ adding: false })}>${t('cancel')}</button><button class="button is-primary" type="submit">${t('create')}</button></div></form>` : null}
      ${agents ? html`<${Table} label=${t('agents')} keyOf=${(agent) => agent.id} rows=${agents}
        action=${adding ? null : html`<button class="button is-primary" type="button" onClick=${() => this.setState({ adding: true })}><${Icon} name="plus" small />${t('addAgent')}</button>`}
        columns=${[
          { key: 'name', name: t('name'), value: (agent) => agent.name },
          { key: 'user', name: t('user'), value: (agent) => agent.user },
          { key: 'role', name: t('role'), value: (agent) => t(agent.role === 'supervisor' ? 'roleSupervisor' : 'roleAgent') },
          { key: 'status', name: t('status'), value: (agent) => (agent.disabled ? t('disabled') : t(`status${agent.status[0].toUpperCase()}${agent.status.slice(1)}`)), cell: (agent) => html`<span class="with-dot"><i class=${`dot is-${agent.disabled ? 'offline' : agent.status}`}></i>${agent.disabled ? t('disabled') : t(`status${agent.status[0].toUpperCase()}${agent.status.slice(1)}`)}</span>` },
          { key: 'load', name: t('load'), numeric: true, value: (agent) => agent.open },
          { key: 'capacity', name: t('capacityName'), numeric: true, value: (agent) => agent.capacity, cell: (agent) => html`<input class="input is-number-input" type="number" min="0" max="1000" aria-label=${`${t('capacityName')}: ${agent.name}`} value=${agent.capacity} onChange=${(event) => this.#change({ id: agent.id, capacity: Number(event.target.value) })} />` },
          { key: 'actions', name: t('actions'), cell: (agent) => html`<span class="row-actions"><button class="button is-quiet" type="button" onClick=${() => this.#change({ id: agent.id, reset_password: true })}>${t('resetPassword')}</button>
            ${agent.id === me ? null : html`<button class="button is-quiet" type="button" onClick=${() => this.#change({ id: agent.id, disabled: !agent.disabled })}>${t(agent.disabled ? 'enable' : 'disable')}</button>`}</span>` },
        ]} />` : null}`;
  }
}
