# A greeting by name.
greet() {
    echo "Hello, ${1:-world}!"
}
