package block

// ParseMark is parseMark for tests outside the package.
var ParseMark = parseMark
