// @ts-check
import { emptyBox, show, View } from '../core/view.js';

export default class Lost extends View {
  title = 'Not here';

  begin() {
    show(this, emptyBox('There is no such page.'));
  }
}
customElements.define('hf-lost', Lost);
