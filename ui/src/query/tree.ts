import type { SyntaxNode } from "@lezer/common";
import { parser } from "@prometheus-io/lezer-promql";

/** A part of an expression that has a value of its own. */
export interface TreeNode {
  id: number;
  kind: string;
  text: string;
  children: TreeNode[];
}

/** The nodes of the grammar that are shown, with their names. */
const kinds: Record<string, string> = {
  AggregateExpr: "aggregation",
  BinaryExpr: "binary operator",
  FunctionCall: "function",
  MatrixSelector: "range selector",
  VectorSelector: "selector",
  SubqueryExpr: "subquery",
  UnaryExpr: "unary operator",
  NumberDurationLiteral: "number",
  StringLiteral: "string",
};

const depth = 200;

/** Parses an expression; undefined when it has a mistake. */
export function parseTree(text: string): TreeNode | undefined {
  const tree = parser.parse(text);
  let wrong = false;
  tree.iterate({ enter: (n) => void (wrong ||= n.type.isError) });
  if (wrong) {
    return undefined;
  }
  let id = 0;
  const visit = (n: SyntaxNode, level: number): TreeNode[] => {
    const children = (): TreeNode[] => {
      const out: TreeNode[] = [];
      for (let c = n.firstChild; c && level < depth; c = c.nextSibling) {
        out.push(...visit(c, level + 1));
      }
      return out;
    };
    const kind = kinds[n.name];
    if (!kind) {
      return n.name === "LabelMatchers" ? [] : children();
    }
    const me = { id: ++id, kind, text: text.slice(n.from, n.to) };
    return [{ ...me, children: n.name === "VectorSelector" ? [] : children() }];
  };
  return visit(tree.topNode, 0)[0];
}

/** An expression for the number of series of a node, or undefined where it has none. */
export function countOf(node: TreeNode): string | undefined {
  switch (node.kind) {
    case "number":
    case "string":
      return undefined;
    case "range selector":
    case "subquery":
      return `count(count_over_time(${node.text}))`;
    default:
      return `count(${node.text})`;
  }
}
