import {
  acceptCompletion,
  autocompletion,
  closeBrackets,
  closeBracketsKeymap,
  completionKeymap,
  completionStatus,
} from "@codemirror/autocomplete";
import {
  defaultKeymap,
  history,
  historyKeymap,
  insertNewlineAndIndent,
} from "@codemirror/commands";
import { bracketMatching, HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { EditorState, Prec } from "@codemirror/state";
import { EditorView, keymap, placeholder } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { PromQLExtension } from "@prometheus-io/codemirror-promql";
import { useEffect, useRef } from "preact/hooks";
import { nonce } from "../env";
import { Completion } from "./completion";
import type { PanelState } from "./state";

/** A text for the editor. A new object replaces what was typed; the same one does not. */
export interface Doc {
  text: string;
}

interface Props {
  doc: Doc;
  label: string;
  /** The panel of the moment, whose options the completion follows. */
  panel(): PanelState;
  change(text: string): void;
  run(): void;
}

const style = HighlightStyle.define([
  { tag: tags.number, color: "var(--code-number)" },
  { tag: tags.string, color: "var(--code-string)" },
  { tag: [tags.keyword, tags.modifier, tags.operatorKeyword], color: "var(--code-keyword)" },
  { tag: tags.function(tags.variableName), color: "var(--code-function)" },
  { tag: tags.labelName, color: "var(--code-label)" },
  { tag: tags.comment, color: "var(--quiet)", fontStyle: "italic" },
  { tag: tags.invalid, color: "var(--bad)" },
]);

const look = EditorView.theme({
  "&": { color: "var(--fg)", fontSize: "14px" },
  "&.cm-focused": { outline: "none" },
  ".cm-content": { fontFamily: "var(--mono)", padding: "8px 0", caretColor: "var(--fg)" },
  ".cm-line": { padding: "0 10px" },
  ".cm-cursor": { borderLeftColor: "var(--fg)" },
  ".cm-placeholder": { color: "var(--quiet)" },
  ".cm-scroller": { maxHeight: "40vh", lineHeight: "1.5" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "var(--mark)" },
  ".cm-tooltip": {
    background: "var(--panel)",
    color: "var(--fg)",
    border: "1px solid var(--line)",
    borderRadius: "6px",
    boxShadow: "var(--shadow)",
    maxWidth: "min(36rem, 94vw)",
  },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)", maxWidth: "94vw" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": {
    background: "var(--accent)",
    color: "var(--on-accent)",
  },
  ".cm-completionDetail": { color: "inherit", opacity: "0.75", fontStyle: "normal" },
  // The key that the editor draws is a picture that few fonts have.
  ".cm-completionIcon-keyword::after": { content: "'k'" },
  ".cm-completionInfo": { padding: "6px 9px", whiteSpace: "pre-wrap" },
  ".cm-completionMatchedText": { textDecoration: "none", fontWeight: "bold" },
  ".cm-diagnostic": { fontFamily: "var(--sans)", padding: "5px 9px" },
});

/** The editor of an expression: completion, checks while typing, Enter to run. */
export function Editor(props: Props) {
  const place = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView>(undefined);
  const latest = useRef(props);
  latest.current = props;
  useEffect(() => {
    const promql = new PromQLExtension().setComplete({
      remote: new Completion(() => latest.current.panel()),
    });
    const editor = new EditorView({
      parent: place.current!,
      state: EditorState.create({
        doc: latest.current.doc.text,
        extensions: extensions(latest, promql),
      }),
    });
    view.current = editor;
    return () => {
      editor.destroy();
      promql.destroy();
    };
  }, []);
  useEffect(() => {
    const { text } = props.doc;
    const doc = view.current?.state.doc;
    if (doc && doc.toString() !== text) {
      view.current?.dispatch({ changes: { from: 0, to: doc.length, insert: text } });
    }
  }, [props.doc]);
  return <div class="editor" ref={place} />;
}

/** Shift+Enter begins a new line; Tab is left to the browser, except to accept. */
function extensions(latest: { current: Props }, promql: PromQLExtension) {
  const run = (editor: EditorView) => {
    if (completionStatus(editor.state) === "active") {
      return false;
    }
    latest.current.run();
    return true;
  };
  return [
    EditorView.cspNonce.of(nonce),
    history(),
    EditorView.lineWrapping,
    bracketMatching(),
    closeBrackets(),
    autocompletion(),
    syntaxHighlighting(style),
    look,
    promql.asExtension(),
    placeholder("PromQL expression, such as sum by (job) (rate(http_requests_total[5m]))"),
    EditorView.contentAttributes.of({ "aria-label": latest.current.label, spellcheck: "false" }),
    Prec.high(
      keymap.of([
        { key: "Enter", run },
        { key: "Mod-Enter", run: () => (latest.current.run(), true) },
        { key: "Shift-Enter", run: insertNewlineAndIndent },
        { key: "Tab", run: acceptCompletion },
      ]),
    ),
    keymap.of([...closeBracketsKeymap, ...completionKeymap, ...defaultKeymap, ...historyKeymap]),
    EditorView.updateListener.of((u) => {
      if (u.docChanged) {
        latest.current.change(u.state.doc.toString());
      }
    }),
  ];
}
