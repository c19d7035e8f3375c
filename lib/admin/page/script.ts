/**
 * The page's script: fetches the page anew and changes what has changed, in place, so that focus, selection and scroll
 * stay; counts down to expiries in between. It is plain text, because it runs in a browser and is not bundled.
 */
export const SCRIPT = `
'use strict';
(() => {
  const EVERY = 5000;
  const state = document.getElementById('refresh-state');
  const button = document.getElementById('refresh-button');
  let paused = false;
  let timer;

  const say = (text, away) => {
    if (state.textContent !== text) state.textContent = text;
    state.classList.toggle('bad', away);
    state.classList.toggle('state', away);
    state.classList.toggle('away', away);
  };

  // Makes one element like another one, touching only what differs.
  const become = (old, now) => {
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
    after.forEach((child, index) => before[index] ? become(before[index], child) : old.append(child));
    before.slice(after.length).forEach((child) => child.remove());
  };

  const left = (milliseconds) => {
    const seconds = Math.floor(milliseconds / 1000);
    if (seconds <= 0) return 'expired';
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
    const two = (number) => String(number).padStart(2, '0');
    return hours > 0 ? hours + ':' + two(minutes) + ':' + two(seconds % 60) : minutes + ':' + two(seconds % 60);
  };

  // By the clock of the host, which the page tells; the browser's may differ.
  let ahead = 0;
  const readClock = () => {
    ahead = Date.parse(document.getElementById('now').dateTime) - Date.now();
  };
  const countDown = () => {
    for (const time of document.querySelectorAll('time[data-expires]')) {
      const text = left(Date.parse(time.dateTime) - Date.now() - ahead);
      if (time.firstChild.data !== text) time.firstChild.data = text;
    }
  };

  const refresh = async () => {
    clearTimeout(timer);
    try {
      const answer = await fetch('/', { cache: 'no-store', signal: AbortSignal.timeout(EVERY) });
      if (!answer.ok) throw new Error(answer.status);
      const now = new DOMParser().parseFromString(await answer.text(), 'text/html');
      become(document.body, now.body);
      document.title = now.title;
      readClock();
      countDown();
      if (!paused) say('Refreshed every 5 s', false);
    } catch {
      say('The proxy does not answer; what is shown is old', true);
    }
    wait();
  };
  const wait = () => {
    clearTimeout(timer);
    if (!paused && !document.hidden) timer = setTimeout(refresh, EVERY);
  };

  button.addEventListener('click', () => {
    paused = !paused;
    button.textContent = paused ? 'Go on' : 'Pause';
    if (!paused) return void refresh();
    wait();
    say('Paused', false);
  });
  document.addEventListener('visibilitychange', () => {
    if (document.hidden || paused) wait();
    else void refresh();
  });
  button.hidden = false;
  say('Refreshed every 5 s', false);
  readClock();
  countDown();
  setInterval(countDown, 1000);
  wait();
})();
`;
