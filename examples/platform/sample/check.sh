# Runs the test that belongs to a file. `exec`, so that a test that crashes ends this process by the same signal.
name=$(basename "$1")
name=${name%.sh}
test="tests/${name%_test}_test.sh"
if [ -f "$test" ]; then
    exec sh "$test"
fi
echo "no test belongs to $1"
