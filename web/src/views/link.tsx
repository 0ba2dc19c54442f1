/** A link inside the page: a real address, opened without loading the page anew. */
import type { ComponentChildren } from "preact";
import type { Route } from "../route";
import { hrefOf, navigate } from "../store";

interface Props {
  to: Partial<Route>;
  class?: string;
  label?: string;
  title?: string;
  children: ComponentChildren;
}

export function Link({ to, label, title, children, class: className }: Props) {
  return (
    <a
      href={hrefOf(to)}
      {...(className ? { class: className } : {})}
      {...(label ? { "aria-label": label } : {})}
      {...(title ? { title } : {})}
      onClick={(click) => {
        // With a modifier the browser's own "open in a new tab" is meant.
        if (click.metaKey || click.ctrlKey || click.shiftKey || click.button !== 0) return;
        click.preventDefault();
        navigate(to);
        if (to.site !== undefined) scrollTo(0, 0);
      }}
    >
      {children}
    </a>
  );
}
