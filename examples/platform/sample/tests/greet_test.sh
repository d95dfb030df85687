. ./src/greet.sh

for name in Ada Grace Edsger; do
    greeting=$(greet "$name")
    if [ "$greeting" != "Hello, $name!" ]; then
        echo "greet $name: found $greeting"
        exit 1
    fi
done
