// Package ui holds the built web interface of the directory ui, and serves it: one page
// for all paths, which learns from Config what the process serves, and assets whose
// names change with their content. All URLs of the page are relative to it, so it works
// below any prefix. The page gets its data from the JSON APIs of the process only.
package ui
