// The chat app's start: as an iframe of the launcher, or as a page of its own (H5). Draws first, then connects.
import { html, render } from '../ui/view.js';
import { setLanguage } from '../ui/text.js';
import { useAccent } from '../ui/accent.js';
import { readJson } from '../ui/store.js';
import { openBridge } from './bridge.js';
import { Visitor } from './visitor.js';
import { Screen } from './screen.js';

const query = new URLSearchParams(location.search);
const widget = query.get('widget') || 'default';
const bridge = await openBridge(`tidegate.${widget}.`);
const known = readJson(bridge.local, 'shop', {});

setLanguage(bridge.config.lang || query.get('lang'));
useAccent(bridge.config.accent || known.accent);
document.documentElement.classList.toggle('is-embedded', bridge.embedded);

const visitor = new Visitor(bridge, widget, known);
visitor.onShop = (shop) => {
  useAccent(bridge.config.accent || shop.accent);
  document.title = bridge.config.name || shop.name || document.title;
};
render(html`<${Screen} visitor=${visitor} />`, document.getElementById('app'));
visitor.start();

// On a page of its own the phone's keyboard must not cover the composer: the page is as high as what is visible.
if (!bridge.embedded && window.visualViewport) {
  const fit = () => document.documentElement.style.setProperty('--visible-height', `${visualViewport.height}px`);
  visualViewport.addEventListener('resize', fit);
  fit();
}
