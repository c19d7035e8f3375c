import { createContext, Script } from 'node:vm';

/** About as long as a path may be. */
const MAX_TEXT_LENGTH = 1024;
/** Ten thousand times what an expression takes that does not try the same characters again and again. */
const TRIAL_TIMEOUT_MS = 1_000;
/** A process may stand still for a second, on a host that is starting; not three times in a row at the same place. */
const TRIES = 3;
/** In the middle of a text they make an expression fail that has matched so far, whatever it is about. */
const MISFITS = ['!', '/'];

/**
 * An operator's regular expression, for texts that a container chooses. Some repetitions within repetitions, such as
 * `(a+)+$`, take longer than the world will last on a text that nearly matches, and nobody is served meanwhile; so each
 * expression is tried at the start on texts that repeat what it is about.
 *
 * @param patience milliseconds for each trial
 * @throws Error, saying why, when it is no expression or takes too long
 */
export function parseExpression(source: string, flags = '', timeout = TRIAL_TIMEOUT_MS): RegExp {
  const expression = new RegExp(source, flags);
  const choices = source.replace(/\\./g, '').match(/[*+{|]/g) ?? [];
  // A single one tries each beginning once: a million steps at the most.
  if (choices.length < 2) return expression;
  const context = createContext({ expression, text: '' });
  const trial = new Script('expression.test(text)');
  for (const text of adversaries(source)) {
    context['text'] = text;
    if (!endsInTime(() => trial.runInContext(context, { timeout }))) {
      throw new Error(`it takes for ever to say no to ${text.slice(0, 10)}…: a repetition within a repetition?`);
    }
  }
  return expression;
}

/** @param run throws when it takes too long */
function endsInTime(run: () => void): boolean {
  for (let left = TRIES; left > 0; left -= 1) {
    try {
      run();
      return true;
    } catch {
      continue;
    }
  }
  return false;
}

/** Texts of what stands in the expression, one after the other and in pairs, and of what classes stand for. */
function adversaries(source: string): string[] {
  const characters = new Set([...source.replace(/\\./g, '').match(/[\w/-]/g) ?? [], 'a', '0', '/']);
  const words = new Set([...characters, ...source.match(/[\w/-]{2,}/g) ?? [], '/a', 'a-']);
  const [, beginning = ''] = /^\^?([\w/-]*)/.exec(source) ?? [];
  const beginnings = new Set(['', '/', beginning]);
  return [...words].flatMap((word) => {
    const repeated = word.repeat(Math.ceil(MAX_TEXT_LENGTH / word.length));
    return [...beginnings].flatMap((first) => MISFITS.map((last) => (first + repeated).slice(0, MAX_TEXT_LENGTH) + last));
  });
}
