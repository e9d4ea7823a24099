// Package zerocopy gives views of memory without a copy: strings of bytes, bytes
// of strings, and the memory of label sets. It is the only package that imports
// unsafe, except for generated code.
//
// A view shares the memory that it is made of. The owner of the memory must not
// change it as long as the view is in use; a view keeps the memory from being
// freed by the garbage collector, unless it was mapped from a file.
package zerocopy
