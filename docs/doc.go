// Package docs holds the tests that hold the pages in this folder, and the README,
// to the code.
package docs
