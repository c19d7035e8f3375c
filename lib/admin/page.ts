/**
 * The status page: everything in /status as one document that loads nothing else and works without its script. `html`
 * escapes what containers choose; the policy below lets only the page's own style and script run.
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

/** Source: W3C, Content Security Policy Level 3. The icon, the only image, is a data: URL. */
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

/** A page with more rows is unreadable; /status has all of them. */
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
<a class="skip" href="#containers">Skip to containers</a>
<header>
<h1>metadataproxy</h1>
${ready ? mark('good', 'ready') : mark('bad', 'not ready')}
<span class="meta">${version} on Node ${node}, up ${duration(uptime)}, as of
<time id="now" datetime="${time}">${time.slice(11, 19)} UTC</time></span>
<div class="refresh"><span id="refresh-state" role="status" data-own>No automatic refresh without JavaScript</span>
<button type="button" id="refresh-button" data-own hidden>Pause</button></div>
</header>
<main>
${notice(status)}
${tiles(status)}
<section aria-labelledby="requests">
<h2 id="requests">Requests <small>in the last hour</small></h2>
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

type Severity = 'good' | 'warn' | 'bad' | 'none';

/** A state: the word, after a shape and a colour that repeat it. */
function mark(severity: Severity, word: string): Html {
  return html`<span class="state ${severity}">${word}</span>`;
}

const CHECK_NAMES: Readonly<Record<string, string>> = { docker: 'Docker', credentials: 'Source credentials', firewall: 'Firewall' };

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
  const source = checks['credentials'];
  return html`<dl class="tiles">
${tile('Containers', html`<span class="figure">${formatInteger(directory.containers)}</span>`, parts.join(', '))}
${tile(
  'Requests in the last hour',
  html`<span class="figure">${formatInteger(hour.requests)}</span>`,
  `${formatInteger(hour.refused)} refused, ${formatInteger(hour.failed)} failed; p99 ${latency(hour.p99)}`,
)}
${tile('Docker', mark(synced ? 'good' : 'bad', directory.state), healthDetail(docker, 'synced', time))}
${tile('STS', healthMark(sts), healthDetail(sts, 'answered', time))}
${tile('Source credentials', mark(source?.ok ? 'good' : 'bad', source?.ok ? 'ok' : 'unavailable'), source?.detail ?? '')}
${tile('Upstream IMDS', healthMark(upstream), healthDetail(upstream, 'answered', time))}
</dl>`;
}

function tile(name: string, figure: Html, detail: string): Html {
  return html`<div class="tile"><dt>${name}</dt><dd>${figure}<div class="detail">${detail}</div></dd></div>`;
}

const HEALTH_WORDS: Readonly<Record<HealthRow['state'], readonly [Severity, string]>> = {
  ok: ['good', 'answers'],
  failing: ['bad', 'failing'],
  unknown: ['none', 'not called yet'],
  off: ['none', 'off'],
  mock: ['none', 'built-in mock'],
};

function healthMark({ state }: HealthRow): Html {
  return mark(...HEALTH_WORDS[state]);
}

function healthDetail({ state, last_success: success, last_error: error }: HealthRow, did: string, now: string): string {
  const lastSuccess = success === null ? '' : `${did} ${ago(success, now)}`;
  if (error === null) return lastSuccess;
  const lastError = `${ago(error.time, now)}: ${error.message}`;
  return state === 'failing' ? lastError : `${lastSuccess}; error ${lastError}`;
}

/** `web-2` before `web-10`. */
const BY_NAME = new Intl.Collator('en', { numeric: true });

/** Those with an error first. */
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
  // The last column has the error.
  return html`<span class="quiet">none</span> <span class="sub">${error === source ? 'invalid role request' : source}</span>`;
}

/** Allows line breaks between the parts of an image's or role's name. */
function breakable(text: string): Part {
  return text.split(/(?<=[/:@])(?=[^/])/).flatMap((part, index) => (index === 0 ? [part] : [html`<wbr>`, part]));
}

function credentialMark({ credentials, error }: Pick<RoleRow, 'credentials' | 'error'>): Html {
  switch (credentials) {
    case 'ready':
      return error === null ? mark('good', 'ready') : mark('warn', 'refresh failing');
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
    cell('number', 'Count', formatInteger(count)),
  ]);
  return html`<section aria-labelledby="errors">
<h2 id="errors">Recent errors</h2>
${table('errors', 'errors', ['When', 'What', 'Error', 'Count'], shown, 'No errors since the start.')}
</section>`;
}

function settings({ settings: rows }: Status): Html {
  const set = rows.filter(({ source }) => source !== null).length;
  const shown = rows.map(({ name, value, source }) => [
    cell('', 'Setting', html`<span class="code">${name}</span>`),
    value === null ? cell('quiet', 'Value', 'not set') : cell('text', 'Value', html`<span class="code">${value}</span>`),
    cell('quiet', 'Source', source === null ? 'default' : source === name ? 'environment' : source),
  ]);
  return html`<section aria-labelledby="settings">
<details><summary><span id="settings">Settings</span> <small>${set} set, ${rows.length - set} default</small></summary>
${table('settings', 'settings', ['Setting', 'Value', 'Source'], shown, '')}</details>
</section>`;
}

interface Cell {
  readonly kind: string;
  readonly label: string;
  readonly content: Part;
}

function cell(kind: string, label: string, content: Part): Cell {
  return { kind, label, content };
}

/** Narrow screens show the rows as cards, which removes a table's implicit ARIA roles: hence the explicit ones. */
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

function tableCell({ kind, label, content }: Cell, column: number): Html {
  if (column === 0) return html`<th role="rowheader" scope="row" class="${kind}">${content}</th>`;
  const isBlank = content === '' || (Array.isArray(content) && content.length === 0);
  return html`<td role="cell" class="${isBlank ? `${kind} blank` : kind}" data-label="${label}"><div>${content}</div></td>`;
}
