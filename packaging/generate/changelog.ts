// packaging/changelog has Debian's format (deb-changelog(5)). The rpm changelog is made from it.

export interface Release {
  readonly version: string;
  readonly changes: readonly string[];
  /** `Name <address>` */
  readonly maintainer: string;
  readonly date: Date;
}

const RELEASE = /^\S+ \((?<version>[^)]+)\) [^\n]*\n(?<body>.*?)\n -- (?<maintainer>.*?)  (?<date>[^\n]+)$/gms;

/** @throws Error if no entry has the right format */
export function latestRelease(changelog: string): Release {
  const [first] = releases(changelog);
  if (!first) throw new Error('packaging/changelog has no entry');
  return first;
}

function releases(changelog: string): Release[] {
  return [...changelog.matchAll(RELEASE)].map(({ groups = {} }) => ({
    version: groups['version'] ?? '',
    changes: (groups['body'] ?? '').split(/^ {2}\* /m).slice(1).map((change) => change.trim().replace(/\s*\n\s*/g, ' ')),
    maintainer: groups['maintainer'] ?? '',
    date: new Date(groups['date'] ?? ''),
  }));
}

/** The changelog in the format of a spec file. */
export function rpmChangelog(changelog: string): string {
  const entries = releases(changelog).map(({ version, changes, maintainer, date }) => {
    const [weekday = '', day, month, year] = date.toUTCString().replace(',', '').split(' ');
    const head = `* ${weekday} ${month} ${day} ${year} ${maintainer} - ${version}-1`;
    return [head, ...changes.map((change) => `- ${change}`), ''].join('\n');
  });
  return entries.join('\n');
}
