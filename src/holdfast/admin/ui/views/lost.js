// @ts-check
import { element, show } from '../core/html.js';
import { emptyBox, View } from '../core/view.js';

export default class Lost extends View {
  title = 'Not here';

  begin() {
    show(this, element`<h1>Not here</h1>`, emptyBox('There is no such page.'));
  }
}
customElements.define('hf-lost', Lost);
