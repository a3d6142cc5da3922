// Text of a message: line breaks are kept by CSS; addresses become links. Never HTML.
import { html } from './view.js';

const ADDRESS = /https?:\/\/[^\s<>"'，。；）】」]+[^\s<>"'，。；）】」.,;:!?)\]]/g;

export function richText(text) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(ADDRESS)) {
    if (match.index > from) parts.push(text.slice(from, match.index));
    parts.push(html`<a href=${match[0]} target="_blank" rel="noopener noreferrer nofollow">${match[0]}</a>`);
    from = match.index + match[0].length;
  }
  if (from === 0) return text;
  if (from < text.length) parts.push(text.slice(from));
  return parts;
}
