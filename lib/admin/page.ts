/**
 * The page for operators: everything that /status says, as one document that needs nothing else and no script. What
 * containers are named or ask for is escaped by `html`; the policy below lets nothing run or load but what is here.
 */

import { createHash } from 'node:crypto';
import { ago, duration, latency, timeLeft, formatInteger } from '../util/format.ts';
import type { ContainerRow } from './container-rows.ts';
import { Html, html, type Part } from './html.ts';
import { charts } from './page/chart.ts';
import { SCRIPT } from './page/script.ts';
import { STYLE } from './page/style.ts';
import type { RoleRow } from './role-rows.ts';
import type { HealthRow, Status } from './status.ts';

const hash = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** Source: W3C, Content Security Policy Level 3. The icon is the only image, and stands in the page itself. */
const POLICY = [
  "default-src 'none'",
  `style-src ${hash(STYLE)}`,
  `script-src ${hash(SCRIPT)}`,
  "connect-src 'self'",
  'img-src data:',
  "frame-ancestors 'none'",
  "base-uri 'none'",
  "form-action 'none'",
].join('; ');

export const PAGE_HEADERS = {
  'Content-Security-Policy': POLICY,
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
} as const;

/** A page of more is of no use to anybody; /status has them all. */
const MAX_ROWS = 500;
const ICON =
  "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath fill='%230a5bb5' " +
  "d='M1 3h14v4H1zm0 6h14v4H1z'/%3E%3Cpath fill='%23fff' d='M3 4h2v2H3zm0 6h2v2H3z'/%3E%3C/svg%3E";

export function page(status: Status): string {
  const { version, node, time, uptime_seconds: uptime, ready } = status;
  const document = html`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>${ready ? '' : 'Not ready: '}metadataproxy</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="${new Html(ICON)}">
<style>${new Html(STYLE)}</style>
</head>
<body>
<a class="skip" href="#containers">To the containers</a>
<header>
<h1>metadataproxy</h1>
${ready ? mark('good', 'ready') : mark('bad', 'not ready')}
<span class="meta">${version} on Node ${node}, up ${duration(uptime)}, as of
<time id="now" datetime="${time}">${time.slice(11, 19)} UTC</time></span>
<div class="refresh"><span id="refresh-state" role="status" data-own>Does not refresh itself without JavaScript</span>
<button type="button" id="refresh-button" data-own hidden>Pause</button></div>
</header>
<main>
${notice(status)}
${tiles(status)}
<section aria-labelledby="requests">
<h2 id="requests">Requests <small>of the last hour</small></h2>
${charts(status)}
</section>
${containers(status)}
${roles(status)}
${errors(status)}
${settings(status)}
</main>
<footer><a href="/status">/status</a> <a href="/readyz">/readyz</a> <a href="/healthz">/healthz</a></footer>
<script>${new Html(SCRIPT)}</script>
</body>
</html>
`;
  return document.text;
}

type Mood = 'good' | 'warn' | 'bad' | 'none';

/** A state: a shape and a colour before the word, which says it all alone. */
function mark(mood: Mood, word: string): Html {
  return html`<span class="state ${mood}">${word}</span>`;
}

const CHECK_NAMES: Readonly<Record<string, string>> = { docker: 'Docker', credentials: "The proxy's own credentials" };

function notice({ ready, checks }: Status): Part {
  if (ready) return '';
  const failing = Object.entries(checks).filter(([, { ok }]) => !ok);
  return html`<div class="notice"><strong>Containers may not be served:</strong>
<ul>${failing.map(([name, { detail }]) => html`<li class="text">${CHECK_NAMES[name] ?? name}: ${detail}</li>`)}</ul></div>`;
}

function tiles(status: Status): Html {
  const { containers: rows, last_hour: hour, directory, docker, sts, upstream, checks, time } = status;
  const count = (state: ContainerRow['credentials']): number =>
    rows.filter(({ role, credentials }) => role !== null && credentials === state).length;
  const without = rows.filter(({ role }) => role === null).length;
  const parts = [
    `${formatInteger(count('ready'))} with credentials`,
    ...(count('failing') > 0 ? [`${formatInteger(count('failing'))} failing`] : []),
    ...(without > 0 ? [`${formatInteger(without)} without a role`] : []),
  ];
  const synced = directory.state === 'synced';
  const own = checks['credentials'];
  return html`<dl class="tiles">
${tile('Containers', html`<span class="figure">${formatInteger(directory.containers)}</span>`, parts.join(', '))}
${tile(
  'Requests in the last hour',
  html`<span class="figure">${formatInteger(hour.requests)}</span>`,
  `${formatInteger(hour.refused)} refused, ${formatInteger(hour.failed)} failed; p99 ${latency(hour.p99)}`,
)}
${tile('Docker', mark(synced ? 'good' : 'bad', directory.state), healthDetail(docker, 'read', time))}
${tile('STS', healthMark(sts), healthDetail(sts, 'answered', time))}
${tile("The proxy's own credentials", mark(own?.ok ? 'good' : 'bad', own?.ok ? 'ok' : 'not working'), own?.detail ?? '')}
${tile('Metadata service', healthMark(upstream), healthDetail(upstream, 'answered', time))}
</dl>`;
}

function tile(name: string, figure: Html, detail: string): Html {
  return html`<div class="tile"><dt>${name}</dt><dd>${figure}<div class="detail">${detail}</div></dd></div>`;
}

const HEALTH_WORDS: Readonly<Record<HealthRow['state'], readonly [Mood, string]>> = {
  ok: ['good', 'answers'],
  failing: ['bad', 'failing'],
  unknown: ['none', 'not asked yet'],
  off: ['none', 'off'],
  mock: ['none', 'built in'],
};

function healthMark({ state }: HealthRow): Html {
  return mark(...HEALTH_WORDS[state]);
}

function healthDetail({ state, last_success: success, last_error: error }: HealthRow, did: string, now: string): string {
  const good = success === null ? '' : `${did} ${ago(success, now)}`;
  if (error === null) return good;
  const bad = `${ago(error.time, now)}: ${error.message}`;
  return state === 'failing' ? bad : `${good}; error ${bad}`;
}

/** `web-2` before `web-10`. */
const BY_NAME = new Intl.Collator('en', { numeric: true });

/** Those that need looking at first. */
function containers({ containers: rows, time }: Status): Html {
  const urgency = ({ error }: ContainerRow): number => (error === null ? 1 : 0);
  const sorted = rows.toSorted((a, b) => urgency(a) - urgency(b) || BY_NAME.compare(a.name, b.name));
  const shown = sorted.slice(0, MAX_ROWS).map((row) => [
    cell('', 'Container', html`<span class="name">${row.name}</span> <span class="sub code">${row.id}</span>`),
    cell('text', 'Image', breakable(row.image)),
    cell('text', 'Addresses', row.addresses.map((address) => html`<div class="code">${address}</div>`)),
    cell('', 'Role', roleOf(row)),
    cell('', 'Credentials', html`${credentialMark(row)} ${countdown(row.expires, time)}`),
    cell('number', 'Requests', row.requests === null ? '' : formatInteger(row.requests)),
    cell('', 'Last error', lastError(row, time)),
  ]);
  const more = rows.length > MAX_ROWS ? html`<p class="empty">${rows.length - MAX_ROWS} more are in /status.</p>` : '';
  return html`<section aria-labelledby="containers">
<h2 id="containers" tabindex="-1">Containers <small>${formatInteger(rows.length)}</small></h2>
${table('containers', 'containers', CONTAINER_COLUMNS, shown, 'No container is running.')}${more}
</section>`;
}

const CONTAINER_COLUMNS = ['Container', 'Image', 'Addresses', 'Role', 'Credentials', 'Requests', 'Last error'];

function roleOf({ role, source, error }: ContainerRow): Html {
  if (role !== null) return html`<span class="text">${breakable(role)}</span> <span class="sub">${source}</span>`;
  // What is wrong with it stands in the last column.
  return html`<span class="quiet">none</span> <span class="sub">${error === source ? 'what it asks for is not valid' : source}</span>`;
}

/** Lets a line of an image's or role's name end where its parts do. */
function breakable(text: string): Part {
  return text.split(/(?<=[/:@])(?=[^/])/).flatMap((part, index) => (index === 0 ? [part] : [html`<wbr>`, part]));
}

function credentialMark({ credentials, error }: Pick<RoleRow, 'credentials' | 'error'>): Html {
  switch (credentials) {
    case 'ready':
      return error === null ? mark('good', 'ready') : mark('warn', 'not renewed');
    case 'failing':
      return mark('bad', 'failing');
    default:
      return error === null ? mark('none', 'none') : mark('bad', 'none');
  }
}

function countdown(expires: string | null, now: string): Part {
  if (expires === null) return '';
  return html`<time class="quiet" datetime="${expires}" title="expires ${expires}" data-expires>${timeLeft(expires, now)}</time>`;
}

function lastError({ error, last_error: last }: ContainerRow, now: string): Part {
  if (error !== null) return html`<span class="error">${error}</span>`;
  if (last === null) return '';
  return html`<span class="text">${last.message}</span> <span class="sub">${ago(last.time, now)}</span>`;
}

function roles({ roles: rows, time }: Status): Html {
  const shown = rows.map((row) => [
    cell('', 'Role', html`<span class="text">${breakable(row.role)}</span>${
      row.role_arn === null || row.role_arn === row.role ? '' : html` <span class="sub">${breakable(row.role_arn)}</span>`
    }`),
    cell('number', 'Containers', formatInteger(row.containers)),
    cell('', 'Credentials', html`${credentialMark(row)} ${countdown(row.expires, time)}`),
    cell('error', 'Last error', row.error ?? ''),
  ]);
  return html`<section aria-labelledby="roles">
<h2 id="roles">Roles <small>${formatInteger(rows.length)}</small></h2>
${table('roles', 'roles', ['Role', 'Containers', 'Credentials', 'Last error'], shown, 'No container has a role.')}
</section>`;
}

function errors({ errors: rows, time }: Status): Html {
  const shown = rows.map(({ message, about, error, count, last }) => [
    cell('when', 'When', html`<time datetime="${last}" title="${last}">${ago(last, time)}</time>`),
    cell('', 'What', html`${message}${about === '' ? '' : html` <span class="sub">${about}</span>`}`),
    cell('text', 'Error', error),
    cell('number', 'Times', formatInteger(count)),
  ]);
  return html`<section aria-labelledby="errors">
<h2 id="errors">Last errors</h2>
${table('errors', 'errors', ['When', 'What', 'Error', 'Times'], shown, 'None since the start.')}
</section>`;
}

function settings({ settings: rows }: Status): Html {
  const given = rows.filter(({ source }) => source !== null).length;
  const shown = rows.map(({ name, value, source }) => [
    cell('', 'Setting', html`<span class="code">${name}</span>`),
    value === null ? cell('quiet', 'Value', 'not set') : cell('text', 'Value', html`<span class="code">${value}</span>`),
    cell('quiet', 'Given by', source === null ? 'default' : source === name ? 'environment' : source),
  ]);
  return html`<section aria-labelledby="settings">
<details><summary><span id="settings">Settings</span> <small>${given} given, ${rows.length - given} by default</small></summary>
${table('settings', 'settings', ['Setting', 'Value', 'Given by'], shown, '')}</details>
</section>`;
}

interface Cell {
  readonly kind: string;
  readonly label: string;
  readonly inside: Part;
}

function cell(kind: string, label: string, inside: Part): Cell {
  return { kind, label, inside };
}

/** The roles are spelled out, because on narrow screens the rows are shown as cards, which loses a table's own. */
function table(kind: string, label: string, columns: readonly string[], rows: readonly (readonly Cell[])[], empty: string): Html {
  if (rows.length === 0) return html`<div class="rows"><p class="empty">${empty}</p></div>`;
  const heads = columns.map((name) => {
    const isNumber = rows[0]?.some((one) => one.label === name && one.kind === 'number');
    return html`<th role="columnheader" scope="col"${isNumber ? html` class="number"` : ''}>${name}</th>`;
  });
  return html`<div class="rows"><table class="${kind}" role="table" aria-labelledby="${label}">
<thead role="rowgroup"><tr role="row">${heads}</tr></thead>
<tbody role="rowgroup">
${rows.map((row) => html`<tr role="row">${row.map(tableCell)}</tr>\n`)}</tbody></table></div>`;
}

function tableCell({ kind, label, inside }: Cell, column: number): Html {
  if (column === 0) return html`<th role="rowheader" scope="row" class="${kind}">${inside}</th>`;
  const isBlank = inside === '' || (Array.isArray(inside) && inside.length === 0);
  return html`<td role="cell" class="${isBlank ? `${kind} blank` : kind}" data-label="${label}"><div>${inside}</div></td>`;
}
