module kerntally.test/apps

go 1.21
