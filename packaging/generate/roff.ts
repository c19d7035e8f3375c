/** Characters that troff would replace or interpret (groff_char(7)). */
const SPECIAL: Readonly<Record<string, string>> = {
  '\\': '\\e', '-': '\\-', "'": '\\(aq', '`': '\\(ga', '^': '\\(ha', '~': '\\(ti', '"': '\\(dq',
};

/** Escapes a text, so that none of it is markup. */
export function plain(text: string): string {
  const escaped = text.replace(/[\\\-'`^~"]/g, (character) => SPECIAL[character] ?? character);
  return escaped.replace(/^\./gm, '\\&.');
}

export const bold = (text: string): string => `\\fB${plain(text)}\\fR`;
export const italic = (text: string): string => `\\fI${plain(text)}\\fR`;

/** A paragraph with a hanging tag. */
export function tagged(tag: string, text: string): string {
  return `.TP\n${tag}\n${text}`;
}
