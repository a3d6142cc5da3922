// A table with a sticky head that sorts and filters in place.
import { html, Component } from '../ui/view.js';
import { t } from '../ui/text.js';

/** Props: columns [{ key, name, value(row), cell?(row), numeric? }], rows, keyOf(row), label. */
export class Table extends Component {
  state = { sort: this.props.columns[0].key, down: false, filter: '' };

  #sort(key) { this.setState({ sort: key, down: this.state.sort === key ? !this.state.down : false }); }

  render({ columns, rows, keyOf, label, action }, { sort, down, filter }) {
    const by = columns.find((column) => column.key === sort);
    const query = filter.trim().toLowerCase();
    const shown = rows.filter((row) => !query || columns.some((column) => String(column.value?.(row) ?? '').toLowerCase().includes(query)))
      .sort((a, b) => {
        const [x, y] = [by.value(a), by.value(b)];
        return (typeof x === 'number' ? x - y : String(x).localeCompare(String(y))) * (down ? -1 : 1);
      });
    return html`
      <div class="table-tools"><input class="input" type="search" placeholder=${t('filter')} aria-label=${t('filter')} value=${filter} onInput=${(event) => this.setState({ filter: event.target.value })} />${action}</div>
      <div class="table-frame" tabindex="0" role="region" aria-label=${label}>
        <table>
          <thead><tr>${columns.map((column) => html`<th scope="col" class=${column.numeric ? 'is-number' : ''} aria-sort=${sort === column.key && column.value ? (down ? 'descending' : 'ascending') : undefined}>
            ${column.value ? html`<button type="button" onClick=${() => this.#sort(column.key)}>${column.name}<i aria-hidden="true">${sort === column.key ? (down ? '↓' : '↑') : ''}</i></button>` : html`<span class="only-for-readers">${column.name}</span>`}</th>`)}</tr></thead>
          <tbody>${shown.map((row) => html`<tr key=${keyOf(row)}>${columns.map((column) => html`<td class=${column.numeric ? 'is-number numeric' : ''}>${column.cell ? column.cell(row) : column.value(row)}</td>`)}</tr>`)}</tbody>
        </table>
        ${shown.length ? null : html`<p class="admin-none">${t('nothingFound')}</p>`}
      </div>`;
  }
}
