// Package storepb is the generated code of the StoreAPI protocol; its folders
// hold the parts whose Go names would collide. Nothing here is written by hand.
package storepb

//go:generate ../../../proto/generate.sh
