/**
 * The page's script. It fetches the page every 5 s and updates only what changed, so that focus, selection and scroll
 * position stay, and counts down to expiry in between. It is a string because it runs in the browser, not in Node.
 */
export const SCRIPT = `
'use strict';
(() => {
  const INTERVAL = 5000;
  const state = document.getElementById('refresh-state');
  const button = document.getElementById('refresh-button');
  let paused = false;
  let timer;

  const showState = (text, isError) => {
    if (state.textContent !== text) state.textContent = text;
    state.classList.toggle('bad', isError);
    state.classList.toggle('state', isError);
    state.classList.toggle('away', isError);
  };

  // Makes an element equal to another one, changing only what differs.
  const morph = (old, now) => {
    if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName) return old.replaceWith(now);
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== now.data) old.data = now.data;
      return;
    }
    if (old.hasAttribute('data-own')) return;
    for (const { name } of [...old.attributes]) {
      if (!now.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
    }
    for (const { name, value } of now.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const [before, after] = [[...old.childNodes], [...now.childNodes]];
    after.forEach((child, index) => before[index] ? morph(before[index], child) : old.append(child));
    before.slice(after.length).forEach((child) => child.remove());
  };

  const left = (milliseconds) => {
    const seconds = Math.floor(milliseconds / 1000);
    if (seconds <= 0) return 'expired';
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    const two = (number) => String(number).padStart(2, '0');
    return hours > 0 ? hours + ':' + two(minutes) + ':' + two(seconds % 60) : minutes + ':' + two(seconds % 60);
  };

  // The host's clock minus the browser's.
  let clockOffset = 0;
  const readClock = () => {
    clockOffset = Date.parse(document.getElementById('now').dateTime) - Date.now();
  };
  const countDown = () => {
    for (const time of document.querySelectorAll('time[data-expires]')) {
      const text = left(Date.parse(time.dateTime) - Date.now() - clockOffset);
      if (time.firstChild.data !== text) time.firstChild.data = text;
    }
  };

  const refresh = async () => {
    clearTimeout(timer);
    try {
      const answer = await fetch('/', { cache: 'no-store', signal: AbortSignal.timeout(INTERVAL) });
      if (!answer.ok) throw new Error(answer.status);
      const now = new DOMParser().parseFromString(await answer.text(), 'text/html');
      morph(document.body, now.body);
      document.title = now.title;
      readClock();
      countDown();
      if (!paused) showState('Refreshes every 5 s', false);
    } catch {
      showState('The proxy does not answer; this page is out of date', true);
    }
    schedule();
  };
  const schedule = () => {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(refresh, INTERVAL);
  };

  button.addEventListener('click', () => {
    paused = !paused;
    button.textContent = paused ? 'Resume' : 'Pause';
    if (!paused) return void refresh();
    schedule();
    showState('Paused', false);
  });
  document.addEventListener('visibilitychange', () => {
    if (document.hidden || paused) schedule();
    else void refresh();
  });
  button.hidden = false;
  showState('Refreshes every 5 s', false);
  readClock();
  countDown();
  setInterval(countDown, 1000);
  schedule();
})();
`;
